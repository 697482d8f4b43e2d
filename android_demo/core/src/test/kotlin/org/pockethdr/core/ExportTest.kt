package org.pockethdr.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ExportTest {
    /** As a default export lists them: ONNX first, what could not be built without a file. */
    private val export = Export(
        "dsan-m32", "rgb", tileHeight = 256, tileWidth = 320, halo = 26, multiple = 2, hasContext = false,
        artifacts = listOf(
            Artifact("onnx", "int8", "net.onnx", "aa"),
            Artifact("tflite", "fp32", "net_fp32.tflite", "bb"),
            Artifact("tflite", "fp16", null, null),
            Artifact("tflite", "int8", "net_int8.tflite", "cc"),
            Artifact("tensorrt", "fp16", "net.plan", "dd"),
        ),
    )

    private fun refused(words: String, work: () -> Unit) {
        val message = assertThrows(PocketError::class.java) { work() }.message!!
        assertTrue(message, words in message && message.endsWith("."))
    }

    @Test
    fun onlyTfliteIsOpened() {
        assertEquals("net_int8.tflite" to "cc", export.file("int8"))
        assertEquals("net_fp32.tflite" to "bb", export.file("fp32"))
    }

    @Test
    fun whatIsNotThereIsRefusedInASentence() {
        refused("no tflite artifact of dsan-m32 in fp16 (fp32, int8)") { export.file("fp16") }
        refused("in int8 (none at all)") { export.copy(artifacts = export.artifacts.take(1)).file("int8") }
    }

    @Test
    fun tilesAreThoseOfTheManifest() {
        assertEquals(ModelSpec("dsan-m32", 256, 320, 26, 2), export.spec())
    }

    @Test
    fun networksThatThisAppCannotRunAreRefusedInASentence() {
        refused("takes raw frames, and photographs are rgb") { export.copy(domain = "raw").spec() }
        refused("told of the whole image by a second network") { export.copy(hasContext = true).spec() }
        refused("looks at its whole input at once") { export.copy(halo = null).spec() }
    }

    @Test
    fun tilesThatDoNotFitTogetherAreRefusedInASentence() {
        val wrong = listOf(
            export.copy(tileHeight = 52), export.copy(tileWidth = 255), export.copy(tileHeight = 0),
            export.copy(multiple = 0), export.copy(halo = -2),
        )
        for (export in wrong) refused("do not fit together") { export.spec() }
        assertEquals(54, export.copy(tileHeight = 54).spec().tileHeight)
    }
}
