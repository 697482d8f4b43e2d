package org.pockethdr.demo

import android.content.ContentResolver
import android.net.Uri
import org.pockethdr.core.Bracket
import org.pockethdr.core.Frame
import org.pockethdr.core.I420
import org.pockethdr.core.PocketError
import java.io.File
import java.util.Properties

/** A frame on its way from the camera into the store. */
class CapturedFrame(val image: I420, val exposure: Double, val orientation: Int)

/**
 * The chosen bracket, copied into the app's own files: it is still there after the system has ended
 * the app, and whatever happens to the originals.
 */
class BracketStore(private val folder: File) {
    private val index = File(folder, "bracket.properties")

    val isEmpty: Boolean get() = !index.exists()

    /** Replaces the bracket by copies of three photographs. */
    fun take(resolver: ContentResolver, photographs: List<Uri>) = replace { part, properties ->
        photographs.forEachIndexed { i, uri ->
            val file = File(part, "$i.photo")
            val source = resolver.openInputStream(uri) ?: throw PocketError("A photograph cannot be opened. Choose it again.")
            source.use { from -> file.outputStream().use { from.copyTo(it) } }
            val info = PhotoInfo(file)
            properties.putFrame(i, file.name, info.exposure, info.orientation)
        }
    }

    /** Replaces the bracket by three frames of the camera. */
    fun take(frames: List<CapturedFrame>) = replace { part, properties ->
        frames.forEachIndexed { i, frame ->
            File(part, "$i.i420").writeBytes(frame.image.bytes)
            properties.putFrame(i, "$i.i420", frame.exposure, frame.orientation)
            properties["$i.size"] = "${frame.image.width} ${frame.image.height}"
        }
    }

    /** Reads and checks the bracket; decoded pixels are several times the size of the files. */
    fun load(): Bracket {
        if (isEmpty) throw PocketError("There is no bracket yet. Choose three photographs, or take one.")
        val properties = Properties().apply { index.reader().use { load(it) } }
        return Bracket.of((0 until properties.getProperty("frames").toInt()).map { frame(it, properties) })
    }

    private fun frame(i: Int, properties: Properties): Frame {
        val file = File(folder, properties.getProperty("$i.file"))
        val exposure = properties.getProperty("$i.exposure").toDouble()
        val orientation = properties.getProperty("$i.orientation").toInt()
        val size = properties.getProperty("$i.size") ?: return PhotoFrame.decode(file, exposure, orientation)
        val (width, height) = size.split(' ').map { it.toInt() }
        return CameraFrame(I420(width, height, file.readBytes()), exposure, orientation)
    }

    /** All of the new bracket or none of it. */
    private fun replace(fill: (File, Properties) -> Unit) {
        val part = File(folder.path + ".part").apply { deleteRecursively(); mkdirs() }
        val properties = Properties()
        fill(part, properties)
        properties["frames"] = properties.stringPropertyNames().count { it.endsWith(".file") }.toString()
        File(part, index.name).writer().use { properties.store(it, null) }
        folder.deleteRecursively()
        part.renameTo(folder)
    }

    private fun Properties.putFrame(i: Int, file: String, exposure: Double, orientation: Int) {
        this["$i.file"] = file
        this["$i.exposure"] = exposure.toString()
        this["$i.orientation"] = orientation.toString()
    }
}
