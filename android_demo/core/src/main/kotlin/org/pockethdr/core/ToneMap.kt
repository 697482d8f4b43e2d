package org.pockethdr.core

import kotlin.math.ln
import kotlin.math.log2
import kotlin.math.pow

/**
 * Linear light of any range → 8-bit sRGB: `tone_mapped` of `runtime/develop.py`, to within a code.
 *
 * Log luminance is split by a guided filter into a smooth base and its detail; the base alone is
 * compressed around the scene's key (Reinhard, JGT 2002), the detail is put back as it was.
 */
class ToneMap(private val image: HdrImage) {
    private val floor = floorOf(image)
    private val stops = Plane(image.width, image.height).also { plane ->
        forEachRow(image.height) { y -> row(y) { x, i -> plane.values[y * image.width + x] = log2(lifted(i)) } }
    }
    private val base = GuidedFilter(stops, maxOf(4, minOf(image.width, image.height) / 20), EDGE)
    private val curve = Curve.of(baseOf(image))

    /**
     * What the middle of the scene is multiplied by on its way to the display: the exposure under
     * which linear light looks as bright as the tone-mapped image.
     */
    val middleGain: Float get() = exp2(curve.shift + LIFT + (curve.contrast - 1) * curve.middle)

    /** The whole picture, opaque. */
    fun apply(): Pixels {
        val argb = IntArray(image.width * image.height)
        forEachRow(image.height) { y -> row(y) { x, i -> argb[i] = pixel(x, y, i) } }
        return Pixels(image.width, image.height, argb)
    }

    private fun pixel(x: Int, y: Int, i: Int): Int {
        val target = exp2(stops.values[i] + (curve.contrast - 1) * base.at(x, y) + curve.shift + LIFT)
        val gain = shoulder(toe(target)) / lifted(i)
        return intoGamut(image.pixels[3 * i] * gain, image.pixels[3 * i + 1] * gain, image.pixels[3 * i + 2] * gain)
    }

    /** Scales the distance to grey, and further where a colour would leave the display. */
    private fun intoGamut(red: Float, green: Float, blue: Float): Int {
        val grey = minOf(luminance(red, green, blue), 1f)
        val peak = maxOf((maxOf(red, green, blue) - grey) * curve.saturation, 1e-6f)
        val scale = curve.saturation * minOf(1f, (1f - grey) / peak)
        return (255 shl 24) or
            (Srgb.code(grey + (red - grey) * scale) shl 16) or
            (Srgb.code(grey + (green - grey) * scale) shl 8) or
            Srgb.code(grey + (blue - grey) * scale)
    }

    private fun baseOf(image: HdrImage) = Plane(image.width, image.height).also { plane ->
        forEachRow(image.height) { y -> row(y) { x, i -> plane.values[i] = base.at(x, y) } }
    }

    private inline fun row(y: Int, work: (Int, Int) -> Unit) {
        for (x in 0 until image.width) work(x, y * image.width + x)
    }

    /** Luminance above the floor: far below the scene's middle, logarithms would blow up noise. */
    private fun lifted(pixel: Int) = maxOf(image.luminance(pixel), DARKEST) + floor

    private companion object {
        val DARKEST = exp2(-20f)

        // Share of the scene's middle luminance below which tones are no longer told apart by ratio.
        const val FLOOR = 0.2f
        val LIFT = log2(1 + FLOOR)

        // Squared stops: differences well below its root are detail, well above it edges.
        const val EDGE = 0.3f

        // Display luminance at which the toe has halved what is shown.
        const val TOE = 0.006f

        fun floorOf(image: HdrImage): Float {
            val luminances = sampled(image.width, image.height) { maxOf(image.luminance(it), DARKEST) }
            return FLOOR * percentile(luminances, 50.0)
        }

        fun toe(value: Float) = value * value / (value + TOE)

        /** Identity up to a half, then bent so that nothing passes display white. */
        fun shoulder(value: Float): Float {
            val over = maxOf(value - 0.5f, 0f)
            return minOf(value, 0.5f) + over / (1 + 2 * over)
        }
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
            val samples = sampled(base.width, base.height) { base.values[it] }
            val low = percentile(samples, 2.0)
            val high = percentile(samples, 99.5)
            val mean = base.values.fold(0.0) { sum, value -> sum + value } / base.values.size
            val middle = ((percentile(samples, 50.0) + mean) / 2).toFloat()
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

/** Every fourth value of every fourth row, sorted: enough for a percentile. */
private inline fun sampled(width: Int, height: Int, value: (Int) -> Float): FloatArray {
    val columns = (width + 3) / 4
    val samples = FloatArray((height + 3) / 4 * columns) { value(it / columns * 4 * width + it % columns * 4) }
    return samples.apply { sort() }
}
