package org.pockethdr.core

import java.util.concurrent.Callable
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executors

/** Calls [work] for every row in `0 until height`, on all cores. Rows must not depend on each other. */
internal fun forEachRow(height: Int, work: (Int) -> Unit) {
    val threads = minOf(Runtime.getRuntime().availableProcessors(), height)
    val pool = Executors.newFixedThreadPool(threads)
    try {
        val parts = List(threads) { part ->
            Callable { for (y in height * part / threads until height * (part + 1) / threads) work(y) }
        }
        pool.invokeAll(parts).forEach { it.get() }
    } catch (failure: ExecutionException) {
        throw failure.cause ?: failure
    } finally {
        pool.shutdownNow()
    }
}
