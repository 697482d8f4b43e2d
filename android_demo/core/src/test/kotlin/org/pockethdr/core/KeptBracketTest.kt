package org.pockethdr.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import java.io.IOException

class KeptBracketTest {
    @get:Rule
    val scratch = TemporaryFolder()

    private val folder by lazy { File(scratch.root, "bracket") }
    private fun names(folder: File) = folder.list()!!.sorted()
    private fun fill(name: String) = WholeFolder(folder).replace { File(it, name).writeText(name) }

    @Test
    fun aNewBracketReplacesTheOldOne() {
        fill("old")
        fill("new")
        assertEquals(listOf("new"), names(folder))
        assertEquals(listOf("bracket"), names(scratch.root))
    }

    @Test
    fun whatIsRefusedLeavesTheOldBracket() {
        fill("old")
        assertThrows(PocketError::class.java) {
            WholeFolder(folder).replace { part ->
                File(part, "new").writeText("new")
                throw PocketError("no bracket")
            }
        }
        assertEquals(listOf("old"), names(folder))
        assertEquals(listOf("bracket"), names(scratch.root))
    }

    @Test
    fun aFolderThatCannotBeRenamedLeavesTheOldBracket() {
        fill("old")
        assertThrows(IOException::class.java) { WholeFolder(folder).replace { it.deleteRecursively() } }
        assertEquals(listOf("old"), names(folder))
    }

    @Test
    fun aProcessThatEndedBetweenTheTwoRenamesLosesNothing() {
        fill("old")
        assertTrue(folder.renameTo(File(scratch.root, "bracket.old")))
        WholeFolder(folder)
        assertEquals(listOf("old"), names(folder))
    }

    @Test
    fun theIndexIsReadAsItWasWritten() {
        val frames = listOf(StoredFrame("0.photo", 1 / 3.0, 6), StoredFrame("1.i420", 0.25, 1, size = 4 to 2))
        val file = File(scratch.root, "index")
        BracketIndex.write(frames, file)
        assertEquals(frames, BracketIndex.read(file))
    }

    @Test
    fun aDamagedIndexIsRefusedInASentence() {
        val file = File(scratch.root, "index")
        val whole = "frames=1\n0.file=0.photo\n0.exposure=0.5\n0.orientation=1\n0.size=4 2\n"
        val damaged = listOf(
            "", whole.dropLast(3), whole.replace("0.5", "half"), whole.replace("orientation=1", "orientation=9"),
            whole.replace("0.file", "1.file"), whole.replace("4 2", "4 2 2"), whole.replace("frames=1", "frames=-1"), "\\u00",
        )
        for (text in damaged) {
            file.writeText(text)
            val message = assertThrows(text, PocketError::class.java) { BracketIndex.read(file) }.message!!
            assertTrue(message, "is damaged" in message && message.endsWith("."))
        }
        file.writeText(whole)
        assertFalse(BracketIndex.read(file).isEmpty())
    }
}
