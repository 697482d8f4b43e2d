package org.pockethdr.core

enum class Stage { LOAD, DECODE, CUT, RUN, ASSEMBLE, TONE_MAP, ENCODE }

/** Sums wall time by stage. */
class StageClock {
    private val nanoseconds = LongArray(Stage.entries.size)

    fun <T> time(stage: Stage, work: () -> T): T {
        val begin = System.nanoTime()
        try {
            return work()
        } finally {
            nanoseconds[stage.ordinal] += System.nanoTime() - begin
        }
    }

    /** Milliseconds of each stage that ran, in order. */
    fun milliseconds(): Map<Stage, Double> =
        Stage.entries.associateWith { nanoseconds[it.ordinal] / 1e6 }.filterValues { it > 0 }
}

/** Times of single runs in milliseconds, after a warm-up. */
class Latency(private val milliseconds: List<Double>) {
    val runs get() = milliseconds.size
    val p50 get() = percentile(50.0)
    val p90 get() = percentile(90.0)

    private fun percentile(percent: Double) = percentile(milliseconds.sorted(), percent)

    companion object {
        const val WARM_UP = 3
        const val RUNS = 20

        /** Runs [work] untimed, then timed; [progress] may throw to stop. */
        fun of(runs: Int = RUNS, warmUp: Int = WARM_UP, progress: Progress = Progress { _, _ -> }, work: () -> Unit): Latency {
            repeat(warmUp) { work() }
            return Latency(List(runs) {
                val begin = System.nanoTime()
                work()
                ((System.nanoTime() - begin) / 1e6).also { _ -> progress.tile(it + 1, runs) }
            })
        }
    }
}
