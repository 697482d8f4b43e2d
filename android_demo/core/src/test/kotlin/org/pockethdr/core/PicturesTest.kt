package org.pockethdr.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import java.nio.ByteBuffer

class PicturesTest {
    @Test
    fun orientationsAreThoseOfTheHost() {
        val (width, height) = Goldens.ints("orientation.size")
        val image = Goldens.pixels("orientation_1.u8", width, height)
        for (orientation in 1..8) {
            val turned = upright(image, orientation)
            val wanted = Goldens.pixels("orientation_$orientation.u8", turned.width, turned.height)
            assertEquals(Goldens.ints("orientation.$orientation"), listOf(turned.width, turned.height))
            assertArrayEquals("EXIF $orientation", wanted.argb, turned.argb)
            assertArrayEquals("EXIF $orientation", image.argb, turnedBack(turned, orientation).argb)
        }
    }

    @Test
    fun quantisationRoundsAsTheHost() {
        val values = Goldens.floats("quantization_values.f32")
        val coding = Quantization(Goldens.text("quantization.scale").toFloat(), Goldens.int("quantization.zero"))
        val codes = coding.quantize(values)
        assertArrayEquals(Goldens.bytes("quantization_codes.i8"), codes)
        assertArrayEquals(Goldens.floats("quantization_decoded.f32"), coding.dequantize(codes), 0f)
    }

    @Test
    fun cameraPlanesWithGapsBecomeThePicture() {
        // Y rows of 4 in strides of 6; U and V interleaved, as most phones deliver them.
        val luma = ByteBuffer.wrap(ByteArray(12) { if (it % 6 < 4) 100 else 77 })
        val chroma = byteArrayOf(-128, -128, -28, -128, 9)
        val image = I420.of(4, 2, listOf(
            YuvPlane(luma, rowStride = 6, pixelStride = 1),
            YuvPlane(ByteBuffer.wrap(chroma), rowStride = 4, pixelStride = 2),
            YuvPlane(ByteBuffer.wrap(chroma, 1, 4).slice(), rowStride = 4, pixelStride = 2),
        ))
        val argb = IntArray(4).also { image.read(1, 1, 3, 1, it) }
        assertEquals(0xff646464.toInt(), argb[0])
        // Cb 228: blue rises by 1.772 · 100 to the end, green falls by 0.344136 · 100.
        assertEquals(0xff6442ff.toInt(), argb[1])
    }

    @Test
    fun toneMappedIsTheHostsPreviewToACode() {
        for (name in listOf("small", "wide")) {
            val (width, height) = Goldens.ints("tone.$name.size")
            val image = HdrImage(width, height, Goldens.floats("tone_$name.f32"))
            val wanted = Goldens.pixels("tone_$name.u8", width, height)
            assertTrue(name, maxDifference(ToneMap(image).apply(), wanted) <= 1)
        }
    }

    @Test
    fun aFlatPictureHasAGainMap() {
        val image = HdrImage(64, 48, FloatArray(64 * 48 * 3) { 0.18f })
        val map = ToneMap(image).let { GainMap.of(image, it.apply(), it.middleGain) }
        assertEquals(0.1f, map.maxStops, 0f)
        assertEquals(64 to 48, map.pixels.width to map.pixels.height)
    }

    @Test
    fun latencyPercentilesAreNumPys() {
        val (p50, p90) = Goldens.doubles("latency.percentiles")
        val latency = Latency(Goldens.doubles("latency.values"))
        assertEquals(p50, latency.p50, 1e-9)
        assertEquals(p90, latency.p90, 1e-9)
    }
}
