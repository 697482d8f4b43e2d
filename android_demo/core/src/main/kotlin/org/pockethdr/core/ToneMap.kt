package org.pockethdr.core

import kotlin.math.ln
import kotlin.math.log2
import kotlin.math.pow

/**
 * Linear light of any range → 8-bit sRGB: `runtime/tone.py`, to within a code.
 *
 * Log luminance is split by a guided filter into a smooth base and its detail; the base alone is
 * compressed around the scene's key (Reinhard, JGT 2002), the detail is put back as it was. What looks
 * at the whole picture is found on a thumbnail.
 */
class ToneMap(private val image: HdrImage) {
    private val floor: Float
    private val saturation: Float
    private val slope: Enlarged
    private val offset: Enlarged

    /**
     * What the middle of the scene is multiplied by on its way to the display: the exposure under
     * which linear light looks as bright as the tone-mapped image.
     */
    val middleGain: Float

    init {
        val luminance = thumbnail(image)
        floor = FLOOR * exp2(percentile(luminance.sorted { log2(it) }, 50.0))
        val stops = luminance.map { log2(it + floor) }
        val filter = GuidedFilter(stops, maxOf(4, minOf(stops.width, stops.height) / 20), EDGE)
        val base = Plane(stops.width, stops.height, FloatArray(stops.values.size) {
            filter.slope.values[it] * stops.values[it] + filter.offset.values[it]
        })
        val curve = Curve.of(base)
        val squeeze = curve.contrast - 1
        val shift = curve.shift + LIFT
        // stops + squeeze · base + shift = detail + contrast · base + shift
        slope = Enlarged(filter.slope.map { 1 + squeeze * it }, image.width, image.height)
        offset = Enlarged(filter.offset.map { squeeze * it + shift }, image.width, image.height)
        saturation = curve.saturation
        middleGain = exp2(shift + squeeze * curve.middle)
    }

    /** The whole picture, opaque. */
    fun apply(): Pixels {
        val argb = IntArray(image.width * image.height)
        forEachRow(image.height) { y ->
            for (x in 0 until image.width) argb[y * image.width + x] = pixel(x, y)
        }
        return Pixels(image.width, image.height, argb)
    }

    private fun pixel(x: Int, y: Int): Int {
        val i = y * image.width + x
        val luminance = image.luminance(i)
        val raised = luminance + floor
        val gain = Display.shown(slope.at(x, y) * log2(raised) + offset.at(x, y)) / raised
        return coloured(3 * i, gain, luminance * gain)
    }

    /** Scales each colour's distance to grey, and further where it would leave the display. */
    private fun coloured(at: Int, gain: Float, target: Float): Int {
        val shown = minOf(target, 1f)
        val red = (image.pixels[at] * gain - target) * saturation
        val green = (image.pixels[at + 1] * gain - target) * saturation
        val blue = (image.pixels[at + 2] * gain - target) * saturation
        val peak = maxOf(maxOf(red, green), maxOf(blue, 1e-6f))
        val inside = minOf((1 - shown) / peak, 1f)
        return (255 shl 24) or
            (Srgb.code(shown + red * inside) shl 16) or
            (Srgb.code(shown + green * inside) shl 8) or
            Srgb.code(shown + blue * inside)
    }

    private companion object {
        // The longest side of the thumbnail.
        const val THUMBNAIL = 512

        // Rows of the thumbnail that are made at a time; what is left over belongs to the last.
        const val STRIP = 16
        val DARKEST = exp2(-20f)

        // Share of the scene's middle luminance below which tones are no longer told apart by ratio.
        const val FLOOR = 0.2f
        val LIFT = log2(1 + FLOOR)

        // Squared stops: differences well below its root are detail, well above it edges.
        const val EDGE = 0.3f

        /** Mean luminance over squares of pixels. */
        fun thumbnail(image: HdrImage): Plane {
            val step = maxOf(1, maxOf(image.width, image.height) / THUMBNAIL)
            val width = maxOf(1, image.width / step)
            val strips = (0 until image.height step STRIP * step).map { first ->
                val rows = minOf(STRIP * step, image.height - first)
                val start = first * image.width
                val strip = Plane(image.width, rows, FloatArray(image.width * rows) { image.luminance(start + it) })
                strip.shrunk(width, maxOf(1, rows / step))
            }
            val small = Plane(width, strips.sumOf { it.height })
            var at = 0
            for (strip in strips) for (value in strip.values) small.values[at++] = maxOf(value, DARKEST)
            return small
        }
    }
}

/** Stops of display luminance → that luminance, with a film's toe and shoulder. */
private object Display {
    private const val LOWEST = -24f
    private const val STEPS = 2048f

    // Display luminance at which the toe has halved what is shown.
    private const val TOE = 0.006
    private val table = FloatArray(65536) { bent(2.0.pow(it / STEPS.toDouble() + LOWEST)).toFloat() }

    fun shown(stops: Float): Float = table[((stops - LOWEST) * STEPS).toInt().coerceIn(0, table.size - 1)]

    private fun bent(luminance: Double): Double {
        val dark = luminance * luminance / (luminance + TOE)
        val over = maxOf(dark - 0.5, 0.0)
        return minOf(dark, 0.5) + over / (1 + 2 * over)
    }
}

/** Display stops of the base are [shift] + [contrast] · base; [middle] is the scene's. */
private class Curve(val shift: Float, val contrast: Float, val middle: Float) {
    /** How much colour stays: Mantiuk et al. 2009, equation 5, of half the compression. */
    val saturation: Float = ((1 + contrast) / 2).pow(0.9925f).let { 2.6774f * it / (1 + 1.6774f * it) }

    companion object {
        // Where the brightest half percent of the base goes, in stops below display white.
        private const val HEADROOM = 0.15f
        private const val FLATTEST = 0.55f
        private const val STEEPEST = 1f
        private const val KEY = 0.18f
        private const val DARKEST_KEY = 0.06f
        private const val BRIGHTEST_KEY = 0.30f

        fun of(base: Plane): Curve {
            val sorted = base.sorted { it }
            val low = percentile(sorted, 2.0)
            val high = percentile(sorted, 99.5)
            val mean = sorted.fold(0.0) { sum, value -> sum + value } / sorted.size
            val middle = ((percentile(sorted, 50.0) + mean) / 2).toFloat()
            // Reinhard 2002, equation 4: a dark scene with a few lights gets a lower key.
            val position = (2 * middle - low - high) / maxOf(high - low, 1e-3f)
            val key = log2((KEY * 4f.pow(position)).coerceIn(DARKEST_KEY, BRIGHTEST_KEY))
            val contrast = ((-HEADROOM - key) / maxOf(high - middle, 1e-3f)).coerceIn(FLATTEST, STEEPEST)
            return Curve(key - contrast * middle, contrast, middle)
        }
    }
}

internal fun exp2(stops: Float) = Math.exp(stops * LN2).toFloat()

private val LN2 = ln(2.0)
