package org.pockethdr.core

/**
 * Running a network of fixed size over an image of any size, by the rule of `runtime/tiling.py`.
 *
 * At the far borders tiles are shifted inwards, not padded. Neighbours overlap by at least twice the
 * halo and the cut runs through the middle, so that each pixel's block of `multiple` lies `halo` away
 * from any border that is not the image's own: with halo ≥ the receptive radius, tiles equal the whole run.
 */

/** One tile along one axis: it reads `start until start + length` and owns `ownStart until ownEnd`. */
data class Span(val start: Int, val length: Int, val ownStart: Int, val ownEnd: Int)

data class Tile(val rows: Span, val columns: Span)

/**
 * Tiles that own every pixel of a [height] × [width] image exactly once, row by row.
 *
 * @param halo pixels that a tile must see beyond the blocks of what it owns.
 * @param multiple tiles start at multiples of this, to keep the phase of strided networks.
 */
fun tiles(height: Int, width: Int, spec: ModelSpec): List<Tile> {
    val rows = spans(height, spec.tileHeight, spec.halo, spec.multiple)
    val columns = spans(width, spec.tileWidth, spec.halo, spec.multiple)
    return rows.flatMap { row -> columns.map { column -> Tile(row, column) } }
}

/** An index beyond `0 until size`, mirrored back inside without repeating the border. */
fun reflected(index: Int, size: Int): Int {
    if (size == 1) return 0
    val folded = Math.abs(index) % (2 * size - 2)
    return minOf(folded, 2 * size - 2 - folded)
}

/** [pixels] filled up to blocks of [multiple], which a network that strides by it sees as one. */
internal fun wholeBlocks(pixels: Int, multiple: Int): Int = (pixels + multiple - 1) / multiple * multiple

internal fun spans(size: Int, tile: Int, halo: Int, multiple: Int): List<Span> {
    val starts = starts(size, tile, halo, multiple)
    val cuts = starts.zipWithNext { start, following -> (following + start + tile) / 2 }
    val borders = listOf(0) + cuts + size
    return starts.mapIndexed { i, start -> Span(start, tile, borders[i], borders[i + 1]) }
}

private fun starts(size: Int, tile: Int, halo: Int, multiple: Int): List<Int> {
    require(tile > 0 && tile % multiple == 0) { "a tile of $tile pixels is no multiple of $multiple" }
    require(size > 0) { "an image of $size pixels has nothing to tile" }
    // A network of stride `multiple` sees an image filled up to a multiple of it.
    val last = maxOf(0, wholeBlocks(size, multiple) - tile)
    if (last == 0) return listOf(0)
    val step = tile - 2 * wholeBlocks(halo, multiple)
    require(step > 0) { "a tile of $tile pixels is too small for a halo of $halo on each side" }
    return (0 until last step step) + last
}
