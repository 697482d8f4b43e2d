package org.pockethdr.core

/** Linear RGB, height × width × 3 in [pixels]; 1.0 = clip level of the shortest frame. */
class HdrImage(val width: Int, val height: Int, val pixels: FloatArray = FloatArray(width * height * 3)) {
    init {
        require(pixels.size == width * height * 3) { "${pixels.size} values for $width × $height × 3" }
    }
}

/** Rec. 709 luminance of linear sRGB. */
internal fun luminance(red: Float, green: Float, blue: Float) = 0.2126f * red + 0.7152f * green + 0.0722f * blue

internal fun HdrImage.luminance(pixel: Int) =
    luminance(pixels[3 * pixel], pixels[3 * pixel + 1], pixels[3 * pixel + 2])
