package org.pockethdr.core

/** 0xAARRGGBB pixels, row by row. */
class Pixels(val width: Int, val height: Int, val argb: IntArray)

/** Pixels turned and mirrored to how the scene is to be seen; [orientation] is EXIF's, 1..8. */
fun upright(image: Pixels, orientation: Int): Pixels {
    require(orientation in 1..8) { "EXIF orientation $orientation is not one of 1 to 8" }
    if (orientation == 1) return image
    val turned = orientation >= 5
    val width = if (turned) image.height else image.width
    val height = if (turned) image.width else image.height
    val out = IntArray(image.argb.size)
    for (y in 0 until height) for (x in 0 until width) {
        // Where the pixel came from: mirrored columns and rows, after undoing the quarter turn.
        val column = if (turned) y else x
        val row = if (turned) x else y
        val fromX = if (orientation in MIRRORED_X) image.width - 1 - column else column
        val fromY = if (orientation in MIRRORED_Y) image.height - 1 - row else row
        out[y * width + x] = image.argb[fromY * image.width + fromX]
    }
    return Pixels(width, height, out)
}

/** What [upright] made of an image, as that was before. */
internal fun turnedBack(image: Pixels, orientation: Int): Pixels =
    // A quarter turn is undone by the other one; everything else by itself.
    upright(image, if (orientation in QUARTERS) QUARTERS.sum() - orientation else orientation)

private val QUARTERS = setOf(6, 8)
private val MIRRORED_X = setOf(2, 3, 7, 8)
private val MIRRORED_Y = setOf(3, 4, 6, 7)
