package org.pockethdr.core

/**
 * Pairs the images of a burst with their results, by the sensor's clock; both come in any order.
 *
 * Cameras have only a few images to give: whatever does not belong to the burst, or comes when it is over, is
 * closed at once. Images that are handed on are the receiver's to close.
 */
class BurstCollector<I : AutoCloseable, R>(private val count: Int, private val onComplete: (List<Pair<I, R>>) -> Unit) {
    private val images = sortedMapOf<Long, I>()
    private val results = mutableMapOf<Long, R>()
    private var begin = Long.MIN_VALUE

    /** Until the burst is complete or [close] has ended it. */
    var isOpen = true
        private set

    /** An exposure of the burst began at [time]: images from before its first one are of an earlier burst. */
    fun begun(time: Long) {
        if (begin != Long.MIN_VALUE) return
        begin = time
        images.headMap(time).release()
    }

    fun image(time: Long, image: I) {
        if (!isOpen || time < begin) return image.close()
        images.put(time, image)?.close()
        completeWhenPaired()
    }

    fun result(time: Long, result: R) {
        results[time] = result
        if (isOpen) completeWhenPaired()
    }

    /** Gives up the burst; says whether it was still open. */
    fun close(): Boolean = isOpen.also {
        isOpen = false
        images.release()
    }

    private fun completeWhenPaired() {
        val pairs = images.filterKeys { it in results }.map { (time, image) -> image to results.getValue(time) }
        if (pairs.size < count) return
        isOpen = false
        images.keys.removeAll(results.keys)
        images.release()
        onComplete(pairs)
    }

    private fun MutableMap<Long, I>.release() {
        values.forEach { it.close() }
        clear()
    }
}
