package org.pockethdr.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class TiledFusionTest {
    private val spec = ModelSpec("net", tileHeight = 8, tileWidth = 8, halo = 2, multiple = 2)
    private val bracket = Bracket.of(listOf(1.0, 4.0, 16.0).map { MemoryFrame(Pixels(12, 8, IntArray(12 * 8)), it) })

    /** Gives 0.5 everywhere but [value] in column [column] of row 3. */
    private class Fake(val column: Int, val value: Float) : TileEngine {
        override val accelerator = "CPU"
        override fun run(inputs: List<FloatArray>) = FloatArray(8 * 8 * 3) { if (it / 3 == 3 * 8 + column) value else 0.5f }
        override fun close() = Unit
    }

    @Test
    fun whatIsNoLightIsRefusedInASentence() {
        for (value in listOf(Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY)) {
            val message = assertThrows(PocketError::class.java) { TiledFusion(Fake(1, value), spec).fuse(bracket) }.message!!
            assertTrue(message, "net returns NaN or infinity in rows 0 to 8, columns 0 to 6." in message && message.endsWith("."))
        }
    }

    @Test
    fun onlyWhatATileOwnsMustBeLight() {
        // The first tile owns columns 0 until 6, the second, which starts at 4, those from 6 on.
        val image = TiledFusion(object : TileEngine by Fake(0, 0f) {
            private var tile = 0
            override fun run(inputs: List<FloatArray>) = Fake(if (tile++ == 0) 7 else 0, Float.NaN).run(inputs)
        }, spec).fuse(bracket)
        assertEquals(setOf(0.5f), image.pixels.toSet())
    }
}
