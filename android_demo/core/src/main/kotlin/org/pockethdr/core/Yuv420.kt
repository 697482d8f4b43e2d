package org.pockethdr.core

import java.nio.ByteBuffer

/** One plane of a camera image, as Android's `Image.Plane` describes it. */
class YuvPlane(val bytes: ByteBuffer, val rowStride: Int, val pixelStride: Int)

/** Planar 4:2:0 without gaps: all Y, then all U, then all V. [width] and [height] are even. */
class I420(val width: Int, val height: Int, val bytes: ByteArray) {
    private val chroma = width * height
    private val chromaSize = (width / 2) * (height / 2)

    init {
        require(bytes.size == size(width, height)) { "${bytes.size} bytes for $width × $height" }
    }

    /** Full-range BT.601, as JFIF has it, with each chroma sample standing for its 2×2 pixels. */
    fun read(x: Int, y: Int, width: Int, height: Int, argb: IntArray) {
        for (row in 0 until height) for (column in 0 until width) {
            argb[row * width + column] = pixel(x + column, y + row)
        }
    }

    private fun pixel(x: Int, y: Int): Int {
        val at = (y / 2) * (width / 2) + x / 2
        val luma = bytes[y * width + x].toInt() and 255
        val blue = (bytes[chroma + at].toInt() and 255) - 128
        val red = (bytes[chroma + chromaSize + at].toInt() and 255) - 128
        return (255 shl 24) or
            (code(luma + 1.402f * red) shl 16) or
            (code(luma - 0.344136f * blue - 0.714136f * red) shl 8) or
            code(luma + 1.772f * blue)
    }

    private fun code(value: Float) = Math.round(value).coerceIn(0, 255)

    companion object {
        fun size(width: Int, height: Int) = width * height + 2 * (width / 2) * (height / 2)

        /** Packs a camera image whose planes may have gaps or be interleaved. */
        fun of(width: Int, height: Int, planes: List<YuvPlane>): I420 {
            val bytes = ByteArray(size(width, height))
            var at = 0
            planes.forEachIndexed { index, plane ->
                val shrink = if (index == 0) 1 else 2
                for (row in 0 until height / shrink) for (column in 0 until width / shrink) {
                    bytes[at++] = plane.bytes.get(row * plane.rowStride + column * plane.pixelStride)
                }
            }
            return I420(width, height, bytes)
        }
    }
}
