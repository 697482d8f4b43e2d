package org.pockethdr.core

/** One photograph of a bracket. Pixels are 0xAARRGGBB, encoded as the camera wrote them. */
interface Frame {
    val width: Int
    val height: Int

    /** What the frame gathered, as [exposures] and [Shot.exposure] find it. Only ratios matter. */
    val exposure: Double

    /** EXIF orientation, 1..8. */
    val orientation: Int

    /** The [width] × [height] pixels whose first is at ([x], [y]), row by row, into [argb]. */
    fun read(x: Int, y: Int, width: Int, height: Int, argb: IntArray)
}

/** Three exposures of one scene, ordered short, mid, long; mid is the reference. */
class Bracket private constructor(val frames: List<Frame>) {
    val width get() = frames[0].width
    val height get() = frames[0].height
    val orientation get() = reference.orientation
    val reference get() = frames[1]

    /** Exposure of each frame over that of the shortest: (1, r, r²). */
    val ratios: List<Float> = frames.map { (it.exposure / frames[0].exposure).toFloat() }

    companion object {
        /** Orders three photographs by exposure. Throws [PocketError] when they are no bracket. */
        fun of(photographs: List<Frame>): Bracket {
            if (photographs.size != 3) throw PocketError(
                "A bracket is three photographs, and ${photographs.size} were chosen.",
            )
            if (photographs.any { !(it.exposure > 0) || it.exposure.isInfinite() }) throw PocketError(
                "A photograph does not say how long it was exposed. Choose files straight from the camera.",
            )
            val sizes = photographs.map { it.width to it.height }.distinct()
            if (sizes.size > 1) throw PocketError(
                "The photographs differ in size: " +
                    sizes.joinToString { "${it.first} × ${it.second}" } + ". Choose three of one size.",
            )
            val ordered = photographs.sortedBy { it.exposure }
            if (ordered.zipWithNext().any { (a, b) -> b.exposure <= SAME * a.exposure }) throw PocketError(
                "Two photographs have the same exposure. Choose three different exposures of one scene.",
            )
            return Bracket(ordered)
        }

        // By the rule of `brackets/choose.py`; real steps are a third of a stop (1.26) at least.
        private const val SAME = 1.1
    }
}
