package org.pockethdr.core

import java.io.File
import java.util.Properties

/** A frame as the app keeps it: a photograph, or the planes of a camera frame, whose [size] is width and height. */
data class StoredFrame(val file: String, val exposure: Double, val orientation: Int, val size: Pair<Int, Int>? = null)

/** The file beside the frames of a kept bracket that says what they are. */
object BracketIndex {
    val damaged get() = PocketError("The stored bracket is damaged. Choose three photographs, or take one, again.")

    fun write(frames: List<StoredFrame>, file: File) {
        val properties = Properties()
        properties["frames"] = frames.size.toString()
        frames.forEachIndexed { i, frame ->
            properties["$i.file"] = frame.file
            properties["$i.exposure"] = frame.exposure.toString()
            properties["$i.orientation"] = frame.orientation.toString()
            frame.size?.let { (width, height) -> properties["$i.size"] = "$width $height" }
        }
        file.writer().use { properties.store(it, null) }
    }

    /** Throws [PocketError] when the file does not say what [write] wrote. */
    fun read(file: File): List<StoredFrame> = try {
        val properties = Properties().apply { file.reader().use { load(it) } }
        List(properties.need("frames").toInt()) { properties.frame(it) }
    } catch (wrong: IllegalArgumentException) {
        throw damaged
    }

    private fun Properties.frame(i: Int): StoredFrame {
        val orientation = need("$i.orientation").toInt()
        require(orientation in 1..8)
        val size = getProperty("$i.size")?.split(' ')?.map { it.toInt() }
        require(size == null || size.size == 2 && size.all { it > 0 })
        return StoredFrame(need("$i.file"), need("$i.exposure").toDouble(), orientation, size?.let { (w, h) -> w to h })
    }

    private fun Properties.need(key: String): String = requireNotNull(getProperty(key))
}
