package org.pockethdr.demo

import android.content.res.AssetManager
import org.json.JSONException
import org.json.JSONObject
import org.pockethdr.core.Artifact
import org.pockethdr.core.Export
import org.pockethdr.core.ModelSpec
import org.pockethdr.core.PocketError
import java.io.File
import java.io.IOException

enum class Precision { FP16, INT8 }

/** The artifacts in the APK: the export folder of `pockethdr export`, as it was written. */
class Artifacts(private val assets: AssetManager, private val folder: File) {
    private val export by lazy {
        try {
            exportOf(JSONObject(assets.open("manifest.json").use { it.reader().readText() }))
        } catch (damaged: JSONException) {
            throw PocketError("The app's manifest.json cannot be read: ${damaged.message}. Build the app again.", damaged)
        }
    }

    /** How to tile; see [Export.spec]. */
    val spec: ModelSpec by lazy { export.spec() }

    /** The artifact as a file, unpacked when it is first asked for; see [Export.file]. */
    fun file(precision: Precision): File {
        val (asset, sha256) = export.file(precision.name.lowercase())
        // Named by its content: an updated app never runs an old artifact.
        val file = File(folder, sha256.take(16) + "_" + asset)
        if (!file.exists()) unpack(asset, file)
        return file
    }

    private fun unpack(asset: String, file: File) {
        folder.mkdirs()
        val part = File(folder, file.name + ".part")
        assets.open(asset).use { source -> part.outputStream().use { source.copyTo(it) } }
        if (!part.renameTo(file)) throw IOException("$part cannot be renamed to ${file.name}")
    }
}

private fun exportOf(manifest: JSONObject): Export {
    val size = manifest.getJSONArray("size")
    val artifacts = manifest.getJSONArray("artifacts")
    return Export(
        model = manifest.getString("model"),
        domain = manifest.getString("domain"),
        tileHeight = size.getInt(0),
        tileWidth = size.getInt(1),
        halo = if (manifest.isNull("halo")) null else manifest.getInt("halo"),
        multiple = manifest.getInt("multiple"),
        hasContext = !manifest.isNull("context"),
        artifacts = (0 until artifacts.length()).map { artifactOf(artifacts.getJSONObject(it)) },
    )
}

private fun artifactOf(record: JSONObject) = Artifact(
    record.getString("target"), record.getString("precision"), record.text("file"), record.text("sha256"),
)

private fun JSONObject.text(name: String): String? = if (isNull(name)) null else getString(name)
