package org.pockethdr.core

/** Told of each finished tile; may throw `CancellationException` to stop. */
fun interface Progress {
    fun tile(done: Int, total: Int)
}

/** A whole bracket through an engine of fixed size, tile by tile. */
class TiledFusion(
    private val engine: TileEngine,
    private val spec: ModelSpec,
    private val response: CameraResponse = CameraResponse.SRGB,
) {
    /** Throws [PocketError] when the network returns what is no light. */
    fun fuse(bracket: Bracket, clock: StageClock = StageClock(), progress: Progress = Progress { _, _ -> }): HdrImage {
        val plan = tiles(bracket.height, bracket.width, spec)
        val source = TileInput(bracket, spec, response)
        val inputs = List(ModelSpec.INPUTS.size) {
            FloatArray(spec.tileHeight * spec.tileWidth * ModelSpec.INPUT_CHANNELS)
        }
        val image = HdrImage(bracket.width, bracket.height)
        plan.forEachIndexed { index, tile ->
            clock.time(Stage.CUT) { source.cut(tile, inputs) }
            val output = clock.time(Stage.RUN) { engine.run(inputs) }
            clock.time(Stage.ASSEMBLE) { image.place(tile, output) }
            progress.tile(index + 1, plan.size)
        }
        return image
    }

    /** Copies what the tile owns: finite light. */
    private fun HdrImage.place(tile: Tile, output: FloatArray) {
        val first = tile.columns.ownStart
        val count = (tile.columns.ownEnd - first) * ModelSpec.OUTPUT_CHANNELS
        for (y in tile.rows.ownStart until tile.rows.ownEnd) {
            val from = (y - tile.rows.start) * spec.tileWidth + first - tile.columns.start
            val to = y * width + first
            if (!isFinite(output, from * ModelSpec.OUTPUT_CHANNELS, count)) throw notLight(tile)
            output.copyInto(
                pixels,
                to * ModelSpec.OUTPUT_CHANNELS,
                from * ModelSpec.OUTPUT_CHANNELS,
                from * ModelSpec.OUTPUT_CHANNELS + count,
            )
        }
    }

    private fun isFinite(values: FloatArray, from: Int, count: Int): Boolean {
        var sum = 0.0
        for (i in from until from + count) sum += values[i]
        return sum.isFinite()
    }

    private fun notLight(tile: Tile) = PocketError(
        "${spec.name} returns NaN or infinity in rows ${tile.rows.ownStart} to ${tile.rows.ownEnd}, columns " +
            "${tile.columns.ownStart} to ${tile.columns.ownEnd}. Choose the other precision: FP16 overflows where INT8 does not.",
    )
}
