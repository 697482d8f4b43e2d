package org.pockethdr.demo

import android.content.Context
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.DngCreator
import android.hardware.camera2.TotalCaptureResult
import android.media.Image
import org.pockethdr.core.BurstCollector
import org.pockethdr.core.I420
import org.pockethdr.core.PocketError
import org.pockethdr.core.YuvPlane

internal typealias Burst = BurstCollector<Image, TotalCaptureResult>

/** An image and what the sensor did for it. */
class BurstShot(val image: Image, val result: TotalCaptureResult) {
    /** The YUV image, copied out. */
    fun frame(orientation: Int): CapturedFrame {
        val shot = shotOf(result) ?: throw PocketError("The camera did not say how long it exposed.")
        val planes = image.planes.map { YuvPlane(it.buffer, it.rowStride, it.pixelStride) }
        // Chroma stands for two by two pixels.
        val packed = I420.of(image.width and 1.inv(), image.height and 1.inv(), planes)
        return CapturedFrame(packed, shot.exposure, orientation)
    }
}

/** Saves a burst as DNG files, which `pockethdr fuse` reads on a desktop; returns their names. */
fun saveRaw(
    context: Context,
    characteristics: CameraCharacteristics,
    shots: List<BurstShot>,
    orientation: Int,
): List<String> = shots.mapIndexed { i, shot ->
    val name = "pockethdr_${shots[0].image.timestamp / 1_000_000}_$i.dng"
    DngCreator(characteristics, shot.result).use { dng ->
        dng.setOrientation(orientation)
        saveToGallery(context, name, "image/x-adobe-dng") { dng.writeImage(it, shot.image) }
    }
    name
}
