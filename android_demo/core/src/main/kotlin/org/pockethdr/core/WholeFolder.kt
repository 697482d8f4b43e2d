package org.pockethdr.core

import java.io.File
import java.io.IOException

/** A folder that is replaced as a whole or not at all, also when the process ends in between. */
class WholeFolder(val folder: File) {
    private val part = File(folder.path + ".part")
    private val old = File(folder.path + ".old")

    init {
        if (!folder.exists() && old.exists()) move(old, folder)
    }

    /**
     * Replaces the content by what [fill] writes into the folder that it is given. What [fill] throws leaves
     * all as it was: it must read back what it wrote. Throws [IOException] when the folders cannot be swapped.
     */
    fun <T> replace(fill: (File) -> T): T {
        part.deleteRecursively()
        if (!part.mkdirs()) throw IOException("$part cannot be made")
        try {
            return fill(part).also { swap() }
        } finally {
            part.deleteRecursively()
        }
    }

    private fun swap() {
        old.deleteRecursively()
        if (folder.exists()) move(folder, old)
        try {
            move(part, folder)
        } catch (failure: IOException) {
            old.renameTo(folder)
            throw failure
        }
        old.deleteRecursively()
    }

    private fun move(from: File, to: File) {
        if (!from.renameTo(to)) throw IOException("$from cannot be renamed to ${to.name}")
    }
}
