package org.pockethdr.core

/** A line of a manifest: [file] is null where the exporting host could not build it. */
data class Artifact(val target: String, val precision: String, val file: String?, val sha256: String?)

/**
 * What `manifest.json` says of an export, and what of it can be run here: TFLite on photographs.
 *
 * @property halo null where every output depends on every input.
 * @property hasContext whether tiles are told of the whole image by an artifact of its own.
 */
data class Export(
    val model: String,
    val domain: String,
    val tileHeight: Int,
    val tileWidth: Int,
    val halo: Int?,
    val multiple: Int,
    val hasContext: Boolean,
    val artifacts: List<Artifact>,
) {
    /** How to tile. Throws [PocketError] when the network is not one for photographs in tiles. */
    fun spec(): ModelSpec {
        if (domain != DOMAIN) throw PocketError("$model takes $domain frames, and photographs are $DOMAIN. $OTHER --domain $DOMAIN.")
        if (hasContext) throw PocketError(
            "$model is told of the whole image by a second network, which this app does not run. $OTHER another network.",
        )
        if (halo == null) throw PocketError(
            "$model looks at its whole input at once, and tiles of it do not fit together. $OTHER another network.",
        )
        if (!fits(tileHeight, halo) || !fits(tileWidth, halo)) throw PocketError(
            "$model has tiles of $tileHeight × $tileWidth, a halo of $halo and multiples of $multiple, which do not fit together. " +
                "$OTHER a larger --size.",
        )
        return ModelSpec(model, tileHeight, tileWidth, halo, multiple)
    }

    /** What [tiles] asks of a tile. */
    private fun fits(tile: Int, halo: Int) =
        multiple > 0 && halo >= 0 && tile % multiple == 0 && tile - 2 * wholeBlocks(halo, multiple) >= multiple

    /** The file of a precision (fp16, int8), and its sha256. Throws [PocketError] when there is none. */
    fun file(precision: String): Pair<String, String> {
        val built = artifacts.filter { it.target == TARGET && it.file != null && it.sha256 != null }
        val found = built.find { it.precision == precision } ?: throw PocketError(
            "The app holds no $TARGET artifact of $model in $precision (${built.joinToString { it.precision }.ifEmpty { "none at all" }}). " +
                "$OTHER --targets $TARGET --precisions $precision.",
        )
        return found.file!! to found.sha256!!
    }

    private companion object {
        const val DOMAIN = "rgb"
        const val TARGET = "tflite"
        const val OTHER = "Build it with an export of"
    }
}
