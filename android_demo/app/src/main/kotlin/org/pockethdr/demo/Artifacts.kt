package org.pockethdr.demo

import android.content.res.AssetManager
import org.json.JSONObject
import org.pockethdr.core.ModelSpec
import org.pockethdr.core.PocketError
import java.io.File

enum class Precision { FP16, INT8 }

/** The artifacts in the APK: the export folder of `pockethdr export`, as it was written. */
class Artifacts(private val assets: AssetManager, private val folder: File) {
    private val manifest by lazy { JSONObject(assets.open("manifest.json").use { it.reader().readText() }) }

    /** How to tile. Throws [PocketError] when the network cannot be tiled. */
    val spec: ModelSpec by lazy {
        val size = manifest.getJSONArray("size")
        if (manifest.isNull("halo")) throw PocketError(
            "${manifest.getString("model")} looks at its whole input at once, and tiles of it do not fit together.",
        )
        ModelSpec(
            name = manifest.getString("model"),
            tileHeight = size.getInt(0),
            tileWidth = size.getInt(1),
            halo = manifest.getInt("halo"),
            multiple = manifest.getInt("multiple"),
        )
    }

    /** The artifact as a file, unpacked when it is first asked for. */
    fun file(precision: Precision): File {
        val record = record(precision)
        // Named by its content: an updated app never runs an old artifact.
        val file = File(folder, record.getString("sha256").take(16) + "_" + record.getString("file"))
        if (!file.exists()) unpack(record.getString("file"), file)
        return file
    }

    private fun record(precision: Precision): JSONObject {
        val artifacts = manifest.getJSONArray("artifacts")
        return (0 until artifacts.length()).map { artifacts.getJSONObject(it) }
            .first { it.getString("precision") == precision.name.lowercase() }
    }

    private fun unpack(asset: String, file: File) {
        folder.mkdirs()
        val part = File(folder, file.name + ".part")
        assets.open(asset).use { source -> part.outputStream().use { source.copyTo(it) } }
        part.renameTo(file)
    }
}
