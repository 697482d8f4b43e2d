package org.pockethdr.core

/**
 * What the manifest beside an artifact says of it.
 *
 * @property halo pixels that a tile must see beyond the blocks of what it owns.
 * @property multiple what tiles must start at.
 */
data class ModelSpec(
    val name: String,
    val tileHeight: Int,
    val tileWidth: Int,
    val halo: Int,
    val multiple: Int,
) {
    companion object {
        /** Channels of each input frame: encoded RGB, then linear RGB over the exposure ratio. */
        const val INPUT_CHANNELS = 6

        /** Channels of the output: linear RGB, 1.0 = clip level of the shortest frame. */
        const val OUTPUT_CHANNELS = 3

        val INPUTS = listOf("short", "mid", "long")
        const val OUTPUT = "hdr"
    }
}
