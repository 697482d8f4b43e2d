package org.pockethdr.demo

import com.google.ai.edge.litert.Accelerator
import org.pockethdr.core.Latency
import org.pockethdr.core.ModelSpec
import org.pockethdr.core.StageClock
import java.io.File

/** What is said of a run: which artifact ran where, in how many tiles, how long, in how much memory. */
class Report(private val model: String, private val precision: Precision) {
    var accelerator = ""
    var tiles = 0
    private val refusals = mutableListOf<String>()

    fun refused(accelerator: Accelerator, reason: String) {
        refusals += "$accelerator did not open: $reason"
    }

    fun text(clock: StageClock): String {
        val stages = clock.milliseconds()
        return (listOf("$model $precision on the $accelerator, $tiles tiles, ${seconds(stages.values.sum())}") +
            stages.entries.joinToString { (stage, ms) -> "${stage.name.lowercase().replace('_', ' ')} ${seconds(ms)}" } +
            listOfNotNull(peakMemory()) + refusals).joinToString("\n")
    }

    fun text(latency: Latency, spec: ModelSpec): String = (listOf(
        "$model $precision on the $accelerator, one tile of ${spec.tileHeight} × ${spec.tileWidth}: " +
            "p50 %.1f ms, p90 %.1f ms".format(latency.p50, latency.p90),
        "${latency.runs} runs after ${Latency.WARM_UP} to warm up",
    ) + listOfNotNull(peakMemory()) + refusals).joinToString("\n")

    private fun seconds(milliseconds: Double) = "%.1f s".format(milliseconds / 1000)

    /** The most memory that the process has held, by the kernel's own count. */
    private fun peakMemory(): String? = File("/proc/self/status").readLines()
        .firstOrNull { it.startsWith("VmHWM:") }
        ?.let { line -> "peak memory ${line.filter { it.isDigit() }.toLong() / 1024} MB" }
}
