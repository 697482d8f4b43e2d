package org.pockethdr.core

/** One value a pixel, row by row. The filters follow OpenCV's, which the host uses. */
internal class Plane(val width: Int, val height: Int, val values: FloatArray = FloatArray(width * height)) {
    inline fun map(change: (Float) -> Float) = Plane(width, height, FloatArray(values.size) { change(values[it]) })

    /** All values, changed and sorted: for percentiles. */
    inline fun sorted(change: (Float) -> Float) = map(change).values.apply { sort() }

    inline fun map(other: Plane, combine: (Float, Float) -> Float) =
        Plane(width, height, FloatArray(values.size) { combine(values[it], other.values[it]) })

    /** The mean over [size] × [size] pixels around each; borders are reflected. */
    fun box(size: Int): Plane {
        val rows = Plane(width, height)
        for (y in 0 until height) boxLine(size, width, { values[y * width + it] }) { x, v -> rows.values[y * width + x] = v }
        val out = Plane(width, height)
        for (x in 0 until width) boxLine(size, height, { rows.values[it * width + x] }) { y, v -> out.values[y * width + x] = v }
        return out
    }

    /** Shrunk to [width] × [height] by averaging the area that each new pixel covers. */
    fun shrunk(width: Int, height: Int): Plane {
        val across = Plane(width, this.height)
        val columns = coverage(this.width, width)
        across.fill { x, y -> columns[x].mean { values[y * this.width + it] } }
        val out = Plane(width, height)
        val rows = coverage(this.height, height)
        out.fill { x, y -> rows[y].mean { across.values[it * width + x] } }
        return out
    }

    private inline fun fill(value: (Int, Int) -> Float) {
        for (y in 0 until height) for (x in 0 until width) values[y * width + x] = value(x, y)
    }
}

/** Reads a plane as if it were enlarged to [width] × [height], bilinearly between pixel centres. */
internal class Enlarged(private val plane: Plane, width: Int, height: Int) {
    private val columns = steps(width, plane.width)
    private val rows = steps(height, plane.height)

    fun at(x: Int, y: Int): Float {
        val column = columns[x]
        val row = rows[y]
        val above = blend(row.first, column)
        return above + (blend(row.second, column) - above) * row.weight
    }

    private fun blend(row: Int, column: Step): Float {
        val left = plane.values[row * plane.width + column.first]
        return left + (plane.values[row * plane.width + column.second] - left) * column.weight
    }

    private class Step(val first: Int, val second: Int, val weight: Float)

    private fun steps(large: Int, small: Int) = Array(large) {
        val position = (it + 0.5) * small / large - 0.5
        val first = Math.floor(position).toInt().coerceIn(0, small - 1)
        Step(first, minOf(first + 1, small - 1), (position - first).coerceIn(0.0, 1.0).toFloat())
    }
}

/** Running sums along one line, so that the cost does not grow with [size]. */
private inline fun boxLine(size: Int, length: Int, value: (Int) -> Float, put: (Int, Float) -> Unit) {
    val radius = size / 2
    var sum = 0.0
    for (i in -radius..radius) sum += value(reflected(i, length))
    for (i in 0 until length) {
        put(i, (sum / size).toFloat())
        sum += value(reflected(i + radius + 1, length)) - value(reflected(i - radius, length))
    }
}

/** The old pixels under a new one, and how much of each. */
private class Coverage(private val first: Int, private val weights: FloatArray) {
    inline fun mean(value: (Int) -> Float): Float {
        var sum = 0f
        for (i in weights.indices) sum += weights[i] * value(first + i)
        return sum
    }
}

private fun coverage(large: Int, small: Int): List<Coverage> {
    val scale = large.toDouble() / small
    return List(small) {
        val begin = it * scale
        val end = minOf(begin + scale, large.toDouble())
        val first = begin.toInt()
        val last = minOf(Math.ceil(end - 1e-9).toInt(), large)
        val parts = FloatArray(last - first) { i ->
            ((minOf(first + i + 1.0, end) - maxOf((first + i).toDouble(), begin)) / (end - begin)).toFloat()
        }
        Coverage(first, parts)
    }
}
