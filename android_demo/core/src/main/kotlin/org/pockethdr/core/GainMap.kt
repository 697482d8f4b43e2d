package org.pockethdr.core

import kotlin.math.log2

/**
 * What turns an SDR picture into the HDR one: stops to add at each place, as Ultra HDR stores them.
 *
 *     stops = max(0, log2((hdr + OFFSET) / (sdr + OFFSET))),   code = 255 · stops / maxStops
 *
 * of luminances, linear, 1.0 = SDR white ("Ultra HDR Image Format v1.1", section "Gain map"), as
 * `runtime/gainmap.py` has it. One grey value a block of 4 × 4 pixels.
 */
class GainMap private constructor(val pixels: Pixels, val maxStops: Float) {
    companion object {
        const val OFFSET = 1 / 64f
        private const val BLOCK = 4

        // A display that adds less than this adds nothing; readers divide by it.
        private const val LEAST_STOPS = 0.1f

        /** @param brightness what linear light is multiplied by to be seen beside the [base]. */
        fun of(image: HdrImage, base: Pixels, brightness: Float): GainMap {
            val width = (image.width + BLOCK - 1) / BLOCK
            val stops = Plane(width, (image.height + BLOCK - 1) / BLOCK)
            forEachRow(stops.height) { y ->
                for (x in 0 until width) stops.values[y * width + x] = block(image, base, brightness, x, y)
            }
            return coded(stops)
        }

        /** Of the mean light of one block. */
        private fun block(image: HdrImage, base: Pixels, brightness: Float, x: Int, y: Int): Float {
            var hdr = 0f
            var sdr = 0f
            var count = 0
            for (row in BLOCK * y until minOf(BLOCK * y + BLOCK, image.height)) {
                for (column in BLOCK * x until minOf(BLOCK * x + BLOCK, image.width)) {
                    val i = row * image.width + column
                    hdr += image.luminance(i) * brightness
                    sdr += Srgb.luminance(base.argb[i])
                    count++
                }
            }
            return maxOf(log2((maxOf(hdr / count, 0f) + OFFSET) / (sdr / count + OFFSET)), 0f)
        }

        private fun coded(stops: Plane): GainMap {
            val most = maxOf(stops.values.max(), LEAST_STOPS)
            val argb = IntArray(stops.values.size) {
                val code = Math.round(stops.values[it] / most * 255)
                (255 shl 24) or (code shl 16) or (code shl 8) or code
            }
            return GainMap(Pixels(stops.width, stops.height, argb), most)
        }
    }

    /** The same map, turned with its picture. */
    fun upright(orientation: Int) = GainMap(upright(pixels, orientation), maxStops)
}
