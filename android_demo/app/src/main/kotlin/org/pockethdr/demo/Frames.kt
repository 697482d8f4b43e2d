package org.pockethdr.demo

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.ExifInterface
import org.pockethdr.core.Frame
import org.pockethdr.core.I420
import org.pockethdr.core.JpegCodec
import org.pockethdr.core.Pixels
import org.pockethdr.core.PocketError
import org.pockethdr.core.Settings
import java.io.ByteArrayOutputStream
import java.io.File

/** A photograph from a file, its pixels in a bitmap: outside the heap that Java has to share. */
class PhotoFrame(private val bitmap: Bitmap, override val exposure: Double, override val orientation: Int) : Frame {
    override val width get() = bitmap.width
    override val height get() = bitmap.height

    override fun read(x: Int, y: Int, width: Int, height: Int, argb: IntArray) =
        bitmap.getPixels(argb, 0, width, x, y, width, height)

    companion object {
        fun decode(file: File, exposure: Double, orientation: Int): PhotoFrame {
            val bitmap = BitmapFactory.decodeFile(file.path)
                ?: throw PocketError("One of the photographs is in a format that this phone does not read.")
            return PhotoFrame(bitmap, exposure, orientation)
        }
    }
}

/** A frame of the camera, as it came. */
class CameraFrame(private val image: I420, override val exposure: Double, override val orientation: Int) : Frame {
    override val width get() = image.width
    override val height get() = image.height

    override fun read(x: Int, y: Int, width: Int, height: Int, argb: IntArray) = image.read(x, y, width, height, argb)
}

/** What EXIF says of a photograph. */
class PhotoInfo(file: File) {
    private val exif = ExifInterface(file.path)

    val settings = Settings(
        seconds = number(ExifInterface.TAG_EXPOSURE_TIME),
        iso = number(ExifInterface.TAG_ISO),
        fNumber = number(ExifInterface.TAG_F_NUMBER),
    )

    val orientation: Int = exif.getAttributeInt(ExifInterface.TAG_ORIENTATION, 1).takeIf { it in 1..8 } ?: 1

    private fun number(tag: String): Double? = exif.getAttributeDouble(tag, 0.0).takeIf { it > 0 }
}

object BitmapJpeg : JpegCodec {
    private const val QUALITY = 95

    override fun encode(pixels: Pixels): ByteArray {
        val bitmap = Bitmap.createBitmap(pixels.argb, pixels.width, pixels.height, Bitmap.Config.ARGB_8888)
        val out = ByteArrayOutputStream()
        bitmap.compress(Bitmap.CompressFormat.JPEG, QUALITY, out)
        bitmap.recycle()
        return out.toByteArray()
    }

    override fun decode(jpeg: ByteArray): Pixels {
        val bitmap = BitmapFactory.decodeByteArray(jpeg, 0, jpeg.size)
        val argb = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(argb, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        return Pixels(bitmap.width, bitmap.height, argb).also { bitmap.recycle() }
    }
}
