package org.pockethdr.core

/**
 * A [plane] smoothed where it varies by less than √[edge], itself the guide (He, Sun and Tang, ECCV
 * 2010): slope · plane + offset.
 */
internal class GuidedFilter(plane: Plane, radius: Int, edge: Float) {
    val slope: Plane
    val offset: Plane

    init {
        val size = 2 * radius + 1
        val mean = plane.box(size)
        val square = plane.map(plane) { a, b -> a * b }.box(size)
        val slopes = mean.map(square) { m, s -> maxOf(s - m * m, 0f).let { it / (it + edge) } }
        slope = slopes.box(size)
        offset = slopes.map(mean) { s, m -> m - s * m }.box(size)
    }
}
