package org.pockethdr.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test

class BurstCollectorTest {
    private class Picture(val time: Long) : AutoCloseable {
        var closed = false
        override fun close() {
            closed = true
        }
    }

    private val delivered = mutableListOf<List<Pair<Long, String>>>()
    private val collector = BurstCollector<Picture, String>(2) { pairs ->
        delivered += pairs.map { (picture, result) -> picture.time to result }
    }

    private fun arrives(time: Long) = Picture(time).also { collector.image(time, it) }

    @Test
    fun imagesAndResultsArePairedInAnyOrder() {
        collector.begun(10)
        collector.result(20, "b")
        val pictures = listOf(arrives(10), arrives(20))
        collector.result(10, "a")
        assertEquals(listOf(listOf(10L to "a", 20L to "b")), delivered)
        assertTrue(pictures.none { it.closed })
        assertFalse(collector.isOpen)
    }

    @Test
    fun imagesOfAnEarlierBurstAreClosedAndDoNotHoldUpThisOne() {
        val early = arrives(5)
        collector.begun(10)
        collector.begun(20)
        val late = arrives(6)
        assertTrue(early.closed && late.closed)
        listOf(10L, 20L).forEach { collector.result(it, "") }
        arrives(10)
        arrives(20)
        assertEquals(1, delivered.size)
    }

    @Test
    fun strangersAreClosedEvenWhereTheCameraDoesNotSayWhenItBegan() {
        val stranger = arrives(5)
        for (time in listOf(10L, 20L)) {
            arrives(time)
            collector.result(time, "")
        }
        assertEquals(listOf(10L, 20L), delivered.single().map { it.first })
        assertTrue(stranger.closed)
    }

    @Test
    fun aLostFrameClosesWhatCameAndWhatStillComes() {
        collector.begun(10)
        val before = arrives(10)
        collector.result(10, "")
        assertTrue(collector.close())
        assertFalse(collector.close())
        val after = arrives(20)
        collector.result(20, "")
        assertTrue(before.closed && after.closed)
        assertTrue(delivered.isEmpty())
    }

    @Test
    fun anImageAfterTheLastIsClosed() {
        for (time in listOf(10L, 20L)) {
            collector.result(time, "")
            arrives(time)
        }
        assertTrue(arrives(30).closed)
        assertEquals(1, delivered.size)
    }
}
