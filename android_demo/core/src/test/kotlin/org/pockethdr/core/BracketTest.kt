package org.pockethdr.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class BracketTest {
    private fun frame(exposure: Double, width: Int = 2) = MemoryFrame(Pixels(width, 2, IntArray(width * 2)), exposure)

    @Test
    fun framesAreOrderedByExposure() {
        val bracket = Bracket.of(listOf(frame(0.25), frame(1 / 60.0), frame(1 / 15.0)))
        assertEquals(listOf(1f, 4f, 15f), bracket.ratios)
        assertEquals(1 / 15.0, bracket.reference.exposure, 0.0)
    }

    @Test
    fun whatIsNoBracketIsRefusedInASentence() {
        val refused = listOf(
            listOf(frame(1.0), frame(2.0)) to "2 were chosen",
            listOf(frame(1.0), frame(2.0), frame(Double.NaN)) to "how long it was exposed",
            listOf(frame(1.0), frame(2.0), frame(4.0, width = 3)) to "differ in size",
            listOf(frame(1.0), frame(2.0), frame(2.0)) to "the same exposure",
        )
        for ((frames, words) in refused) {
            val message = assertThrows(PocketError::class.java) { Bracket.of(frames) }.message!!
            assertTrue(message, words in message && message.endsWith("."))
        }
    }

    @Test
    fun exposuresAreThoseOfTheHostAndSoIsWhatIsNoBracket() {
        for (case in 0 until Goldens.int("exposure.cases")) {
            val photographs = Goldens.doubles("exposure.$case.of").map { if (it > 0) it else null }
                .chunked(3) { (seconds, iso, fNumber) -> Settings(seconds, iso, fNumber) }
            val found = exposures(photographs)
            if (Goldens.text("exposure.$case.is") == "refused") {
                assertThrows("$photographs", PocketError::class.java) { Bracket.of(found.map { frame(it) }) }
            } else {
                val wanted = Goldens.doubles("exposure.$case.is")
                for (i in wanted.indices) assertEquals("$photographs", wanted[i], found[i], 1e-9 * wanted[i])
                Bracket.of(found.map { frame(it) })
            }
        }
    }

    @Test
    fun theShutterBracketsAndTheGainTakesTheRest() {
        val plan = exposurePlan(Shot(50_000_000, 100), times = 20_000_000L..100_000_000L, isos = 50..800)
        assertEquals(listOf(Shot(20_000_000, 63), Shot(50_000_000, 100), Shot(100_000_000, 200)), plan)
        assertEquals(0.05, plan[1].exposure, 1e-9)
    }

    @Test
    fun responsesHaveTheBitsOfTheHost() {
        assertArrayEquals(Goldens.floats("response_srgb.f32"), CameraResponse.SRGB.linear(), 0f)
        assertArrayEquals(Goldens.floats("response_gamma22.f32"), CameraResponse.GAMMA22.linear(), 0f)
        assertArrayEquals(Goldens.floats("response_linear.f32"), CameraResponse.LINEAR.linear(), 0f)
    }
}
