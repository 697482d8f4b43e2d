package org.pockethdr.core

/** Makes the network's three inputs of a tile, H×W×6 each, straight from the photographs. */
class TileInput(private val bracket: Bracket, private val spec: ModelSpec, response: CameraResponse) {
    private val encoders = bracket.ratios.map { Encoder(response, it) }
    private val window = IntArray(spec.tileHeight * spec.tileWidth)
    private val columns = IntArray(spec.tileWidth)

    /** Fills [inputs] (short, mid, long). Beyond the far borders the image is reflected. */
    fun cut(tile: Tile, inputs: List<FloatArray>) {
        for ((frame, encoder, input) in triples(inputs)) cut(tile, frame, encoder, input)
    }

    private fun triples(inputs: List<FloatArray>) =
        bracket.frames.indices.map { Triple(bracket.frames[it], encoders[it], inputs[it]) }

    private fun cut(tile: Tile, frame: Frame, encoder: Encoder, input: FloatArray) {
        val height = minOf(spec.tileHeight, frame.height - tile.rows.start)
        val width = minOf(spec.tileWidth, frame.width - tile.columns.start)
        frame.read(tile.columns.start, tile.rows.start, width, height, window)
        for (x in columns.indices) columns[x] = inside(tile.columns.start + x, tile.columns.start, frame.width)
        var at = 0
        for (y in 0 until spec.tileHeight) {
            val row = inside(tile.rows.start + y, tile.rows.start, frame.height) * width
            for (column in columns) at = encoder.put(window[row + column], input, at)
        }
    }

    private fun inside(index: Int, start: Int, size: Int) = reflected(index, size) - start
}

/** One photograph's codes as network input: encoded, then linear over the exposure ratio. */
private class Encoder(response: CameraResponse, ratio: Float) {
    private val encoded = FloatArray(256) { it / 255f }
    private val linear = response.linear().also { table -> for (i in table.indices) table[i] /= ratio }

    /** Writes the six values of a pixel at [at] and returns where the next belongs. */
    fun put(argb: Int, into: FloatArray, at: Int): Int {
        val red = argb shr 16 and 255
        val green = argb shr 8 and 255
        val blue = argb and 255
        into[at] = encoded[red]
        into[at + 1] = encoded[green]
        into[at + 2] = encoded[blue]
        into[at + 3] = linear[red]
        into[at + 4] = linear[green]
        into[at + 5] = linear[blue]
        return at + ModelSpec.INPUT_CHANNELS
    }
}
