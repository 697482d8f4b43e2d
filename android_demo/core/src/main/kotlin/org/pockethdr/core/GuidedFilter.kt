package org.pockethdr.core

/**
 * A plane smoothed where it varies by less than √[edge], itself the guide (He, Sun and Tang, ECCV
 * 2010). The coefficients are found on a quarter of the resolution (He and Sun, "Fast guided filter").
 */
internal class GuidedFilter(private val plane: Plane, radius: Int, edge: Float) {
    private val slope: Enlarged
    private val offset: Enlarged

    init {
        val step = if (minOf(plane.width, plane.height) >= 256) 4 else 1
        val small = plane.shrunk(plane.width / step, plane.height / step)
        val size = 2 * (radius / step) + 1
        val mean = small.box(size)
        val square = small.map(small) { a, b -> a * b }.box(size)
        val slopes = mean.map(square) { m, s -> maxOf(s - m * m, 0f).let { it / (it + edge) } }
        val offsets = slopes.map(mean) { s, m -> m - s * m }
        slope = Enlarged(slopes.box(size), plane.width, plane.height)
        offset = Enlarged(offsets.box(size), plane.width, plane.height)
    }

    fun at(x: Int, y: Int) = slope.at(x, y) * plane.values[y * plane.width + x] + offset.at(x, y)
}
