package org.pockethdr.core

import org.junit.Assume.assumeTrue
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Properties

/**
 * What Python computed, from `python -m android_demo.ci.goldens`: raw little-endian arrays and one
 * file of properties. Tests that need them are skipped where they were not written.
 */
object Goldens {
    private val folder: File? = System.getProperty("pockethdr.goldens")?.let { File(it) }
    private val properties by lazy { Properties().apply { file("goldens.properties").reader().use { load(it) } } }

    fun file(name: String): File {
        assumeTrue("no goldens: run `make android-test`", folder != null)
        return File(folder, name)
    }

    fun text(key: String): String {
        file(key)
        return requireNotNull(properties.getProperty(key)) { "no golden called $key" }
    }

    fun int(key: String) = text(key).toInt()
    fun ints(key: String) = text(key).split(' ').map { it.toInt() }
    fun doubles(key: String) = text(key).split(' ').map { it.toDouble() }

    fun bytes(name: String): ByteArray = file(name).readBytes()

    fun floats(name: String): FloatArray {
        val bytes = ByteBuffer.wrap(bytes(name)).order(ByteOrder.LITTLE_ENDIAN)
        return FloatArray(bytes.remaining() / 4).also { bytes.asFloatBuffer().get(it) }
    }

    /** H×W×3 bytes as opaque pixels. */
    fun pixels(name: String, width: Int, height: Int): Pixels {
        val bytes = bytes(name)
        return Pixels(width, height, IntArray(width * height) { argb(bytes[3 * it], bytes[3 * it + 1], bytes[3 * it + 2]) })
    }

    fun spec() = ints("spec").let { (height, width, halo, multiple) -> ModelSpec(text("model"), height, width, halo, multiple) }

    private fun argb(red: Byte, green: Byte, blue: Byte) =
        (255 shl 24) or (red.toInt() and 255 shl 16) or (green.toInt() and 255 shl 8) or (blue.toInt() and 255)
}

/** A photograph that is already in memory. */
class MemoryFrame(
    private val image: Pixels,
    override val exposure: Double,
    override val orientation: Int = 1,
) : Frame {
    override val width get() = image.width
    override val height get() = image.height

    override fun read(x: Int, y: Int, width: Int, height: Int, argb: IntArray) {
        for (row in 0 until height) image.argb.copyInto(argb, row * width, (y + row) * image.width + x, (y + row) * image.width + x + width)
    }
}

fun maxDifference(a: FloatArray, b: FloatArray): Float {
    require(a.size == b.size) { "${a.size} values against ${b.size}" }
    return a.indices.maxOf { Math.abs(a[it] - b[it]) }
}

/** The largest difference of any channel, in codes. */
fun maxDifference(a: Pixels, b: Pixels): Int = a.argb.indices.maxOf { i ->
    listOf(16, 8, 0).maxOf { Math.abs((a.argb[i] shr it and 255) - (b.argb[i] shr it and 255)) }
}
