package org.pockethdr.demo

import android.content.ContentResolver
import android.net.Uri
import org.pockethdr.core.Bracket
import org.pockethdr.core.BracketIndex
import org.pockethdr.core.Frame
import org.pockethdr.core.I420
import org.pockethdr.core.PocketError
import org.pockethdr.core.StoredFrame
import org.pockethdr.core.WholeFolder
import org.pockethdr.core.exposures
import java.io.File

/** A frame on its way from the camera into the store. */
class CapturedFrame(val image: I420, val exposure: Double, val orientation: Int)

/**
 * The chosen bracket, copied into the app's own files: it is still there after the system has ended
 * the app, and whatever happens to the originals.
 */
class BracketStore(folder: File) {
    private val kept = WholeFolder(folder)

    val isEmpty: Boolean get() = !File(kept.folder, INDEX).exists()

    /** Replaces the bracket by copies of three photographs; the old one stays when they are no bracket. */
    fun take(resolver: ContentResolver, photographs: List<Uri>): Bracket = replace { part ->
        val files = photographs.mapIndexed { i, uri -> File(part, "$i.photo").also { copy(resolver, uri, it) } }
        val infos = files.map { PhotoInfo(it) }
        val exposures = exposures(infos.map { it.settings })
        files.mapIndexed { i, file -> StoredFrame(file.name, exposures[i], infos[i].orientation) }
    }

    /** Replaces the bracket by three frames of the camera; the old one stays when they are no bracket. */
    fun take(frames: List<CapturedFrame>): Bracket = replace { part ->
        frames.mapIndexed { i, frame ->
            val file = File(part, "$i.i420").apply { writeBytes(frame.image.bytes) }
            StoredFrame(file.name, frame.exposure, frame.orientation, frame.image.width to frame.image.height)
        }
    }

    /** Reads and checks the bracket; decoded pixels are several times the size of the files. */
    fun load(): Bracket {
        if (isEmpty) throw PocketError("There is no bracket yet. Choose three photographs, or take one.")
        return bracketIn(kept.folder)
    }

    private fun replace(fill: (File) -> List<StoredFrame>): Bracket = kept.replace { part ->
        BracketIndex.write(fill(part), File(part, INDEX))
        bracketIn(part)
    }

    private fun bracketIn(folder: File) = Bracket.of(BracketIndex.read(File(folder, INDEX)).map { frame(folder, it) })

    private fun frame(folder: File, stored: StoredFrame): Frame {
        val file = File(folder, stored.file)
        val (width, height) = stored.size ?: return PhotoFrame.decode(file, stored.exposure, stored.orientation)
        val bytes = file.readBytes()
        if (bytes.size != I420.size(width, height)) throw BracketIndex.damaged
        return CameraFrame(I420(width, height, bytes), stored.exposure, stored.orientation)
    }

    private fun copy(resolver: ContentResolver, from: Uri, to: File) {
        val source = resolver.openInputStream(from) ?: throw PocketError("A photograph cannot be opened. Choose it again.")
        source.use { bytes -> to.outputStream().use { bytes.copyTo(it) } }
    }

    private companion object {
        const val INDEX = "bracket.properties"
    }
}
