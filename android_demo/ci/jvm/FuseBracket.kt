package org.pockethdr.demo

import org.pockethdr.core.Bracket
import org.pockethdr.core.Goldens
import org.pockethdr.core.JpegCodec
import org.pockethdr.core.MemoryFrame
import org.pockethdr.core.Pixels
import org.pockethdr.core.Stage
import org.pockethdr.core.StageClock
import org.pockethdr.core.TiledFusion
import org.pockethdr.core.ToneMap
import org.pockethdr.core.UltraHdrJpeg
import java.awt.image.BufferedImage
import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import javax.imageio.IIOImage
import javax.imageio.ImageIO
import javax.imageio.ImageWriteParam

/**
 * What the app does to a bracket, on a desktop: `FuseBracket FOLDER` takes the bracket and artifact
 * that Python laid down there and writes `hdr.f32`, `base.u8`, `ultra.jpg` and `result.properties`.
 */
fun main(arguments: Array<String>) {
    val folder = File(arguments.single())
    val (width, height) = Goldens.ints("bracket.size")
    val bracket = Bracket.of(Goldens.doubles("bracket.exposures").mapIndexed { i, seconds ->
        MemoryFrame(Goldens.pixels("bracket_$i.u8", width, height), seconds)
    })
    val spec = Goldens.spec()
    val clock = StageClock()
    var tiles = 0
    val image = clock.time(Stage.LOAD) { LiteRtEngine.open(Goldens.file("artifact.tflite"), spec) }.use {
        TiledFusion(it, spec).fuse(bracket, clock) { _, total -> tiles = total }
    }
    val toneMap = clock.time(Stage.TONE_MAP) { ToneMap(image) }
    val base = clock.time(Stage.TONE_MAP) { toneMap.apply() }
    val file = clock.time(Stage.ENCODE) { UltraHdrJpeg.encode(image, toneMap, orientation = 1, ImageIoJpeg) }
    File(folder, "hdr.f32").writeBytes(image.pixels.bytes())
    File(folder, "base.u8").writeBytes(base.bytes())
    File(folder, "ultra.jpg").writeBytes(file)
    File(folder, "result.properties").writeText(
        "tiles=$tiles\nbrightness=${toneMap.middleGain}\n" +
            clock.milliseconds().entries.joinToString("") { (stage, ms) -> "ms.$stage=$ms\n" },
    )
}

/** Stands for Android's `Bitmap`. */
private object ImageIoJpeg : JpegCodec {
    override fun decode(jpeg: ByteArray): Pixels {
        val image = ImageIO.read(jpeg.inputStream())
        return Pixels(image.width, image.height, image.getRGB(0, 0, image.width, image.height, null, 0, image.width))
    }

    override fun encode(pixels: Pixels): ByteArray {
        val image = BufferedImage(pixels.width, pixels.height, BufferedImage.TYPE_INT_RGB)
        image.setRGB(0, 0, pixels.width, pixels.height, pixels.argb, 0, pixels.width)
        val writer = ImageIO.getImageWritersByFormatName("jpeg").next()
        val out = ByteArrayOutputStream()
        ImageIO.createImageOutputStream(out).use { stream ->
            writer.output = stream
            val settings = writer.defaultWriteParam.apply {
                compressionMode = ImageWriteParam.MODE_EXPLICIT
                compressionQuality = 0.95f
            }
            writer.write(null, IIOImage(image, null, null), settings)
        }
        writer.dispose()
        return out.toByteArray()
    }
}

private fun FloatArray.bytes(): ByteArray {
    val buffer = ByteBuffer.allocate(size * 4).order(ByteOrder.LITTLE_ENDIAN)
    buffer.asFloatBuffer().put(this)
    return buffer.array()
}

/** H×W×3. */
private fun Pixels.bytes() = ByteArray(argb.size * 3) { (argb[it / 3] shr (16 - it % 3 * 8)).toByte() }
