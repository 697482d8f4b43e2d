package org.pockethdr.core

import kotlin.math.log2

/**
 * What turns an SDR picture into the HDR one: stops to add at each place, as Ultra HDR stores them.
 *
 *     stops = log2((hdr + OFFSET) / (sdr + OFFSET)),   code = (stops − minStops) / (maxStops − minStops)
 *
 * of luminances, linear, 1.0 = SDR white ("Ultra HDR Image Format v1.1", section "Gain map"). One
 * grey value a block of 2 × 2 pixels.
 */
class GainMap private constructor(val pixels: Pixels, val minStops: Float, val maxStops: Float) {
    companion object {
        const val OFFSET = 1 / 64f
        private const val BLOCK = 2

        // No display is brighter, and one hot pixel must not spread all codes over darkness.
        private const val MOST = 6f

        /** @param brightness what linear light is multiplied by to be seen beside the [base]. */
        fun of(image: HdrImage, base: Pixels, brightness: Float): GainMap {
            val width = (image.width + BLOCK - 1) / BLOCK
            val stops = Plane(width, (image.height + BLOCK - 1) / BLOCK)
            forEachRow(stops.height) { y ->
                for (x in 0 until width) stops.values[y * width + x] = block(image, base, brightness, x, y)
            }
            return coded(stops)
        }

        /** The mean over the pixels of one block. */
        private fun block(image: HdrImage, base: Pixels, brightness: Float, x: Int, y: Int): Float {
            var sum = 0f
            var count = 0
            for (row in BLOCK * y until minOf(BLOCK * y + BLOCK, image.height)) {
                for (column in BLOCK * x until minOf(BLOCK * x + BLOCK, image.width)) {
                    val i = row * image.width + column
                    val hdr = maxOf(image.luminance(i) * brightness, 0f)
                    sum += log2((hdr + OFFSET) / (Srgb.luminance(base.argb[i]) + OFFSET))
                    count++
                }
            }
            return (sum / count).coerceIn(-MOST, MOST)
        }

        private fun coded(stops: Plane): GainMap {
            val least = stops.values.min()
            // A picture without any range still needs one to divide by.
            val most = maxOf(stops.values.max(), least + 1e-3f)
            val argb = IntArray(stops.values.size) {
                val code = Math.round((stops.values[it] - least) / (most - least) * 255)
                (255 shl 24) or (code shl 16) or (code shl 8) or code
            }
            return GainMap(Pixels(stops.width, stops.height, argb), least, most)
        }
    }

    /** The same map, turned with its picture. */
    fun upright(orientation: Int) = GainMap(upright(pixels, orientation), minStops, maxStops)
}
