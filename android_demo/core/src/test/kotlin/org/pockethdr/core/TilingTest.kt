package org.pockethdr.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class TilingTest {
    @Test
    fun spansAreThoseOfTheHost() {
        for (case in 0 until Goldens.int("tiling.cases")) {
            val (size, tile, halo, multiple) = Goldens.ints("tiling.$case.of")
            val found = spans(size, tile, halo, multiple).flatMap { listOf(it.start, it.length, it.ownStart, it.ownEnd) }
            assertEquals("size $size, tile $tile, halo $halo, multiple $multiple", Goldens.ints("tiling.$case.spans"), found)
        }
    }

    @Test
    fun everyPixelIsOwnedOnce() {
        val spec = ModelSpec("any", tileHeight = 64, tileWidth = 96, halo = 10, multiple = 2)
        val owners = Array(203) { IntArray(151) }
        for (tile in tiles(203, 151, spec)) {
            for (y in tile.rows.ownStart until tile.rows.ownEnd) {
                for (x in tile.columns.ownStart until tile.columns.ownEnd) owners[y][x]++
            }
        }
        assertEquals(setOf(1), owners.flatMap { it.toList() }.toSet())
    }

    @Test
    fun reflectionDoesNotRepeatTheBorder() {
        assertEquals(listOf(2, 1, 0, 1, 2, 3, 2, 1, 0), (-2..6).map { reflected(it, 4) })
        assertEquals(0, reflected(5, 1))
    }

    @Test
    fun aTileSmallerThanItsHaloIsRefused() {
        assertThrows(IllegalArgumentException::class.java) { spans(500, 52, 26, 2) }
    }
}
