package org.pockethdr.demo

import android.app.Application
import android.content.Context
import android.net.Uri
import android.os.Handler
import android.os.Looper
import org.pockethdr.core.Bracket
import org.pockethdr.core.PocketError
import org.pockethdr.core.Progress
import java.io.File
import java.io.IOException
import java.util.concurrent.CancellationException
import java.util.concurrent.Executors

/** Holds the one [Session]: it must not end with an activity when the phone is turned. */
class DemoApplication : Application() {
    val session by lazy { Session(this) }
}

val Context.session: Session get() = (applicationContext as DemoApplication).session

/** What the screen shows. */
data class State(
    val precision: Precision,
    /** The bracket in a line; null when there is none. */
    val bracket: String? = null,
    /** What is being done, with how much of how much; null when idle. */
    val work: String? = null,
    val done: Int = 0,
    val total: Int = 0,
    /** Rises with each new result, so that the screen knows when to read the files. */
    val result: Int = 0,
    val message: String = "",
)

/**
 * Everything between the buttons and the work. State changes on the main thread alone; the work runs
 * on one other thread. What must outlive the process is in files.
 */
class Session(private val context: Application) {
    private val preferences = context.getSharedPreferences("session", Context.MODE_PRIVATE)
    private val store = BracketStore(File(context.filesDir, "bracket"))
    val results = Results(File(context.filesDir, "result"))
    private val interrupted = File(context.filesDir, "running")
    private val fusion = Fusion(Artifacts(context.assets, File(context.filesDir, "models")), store, results)
    private val worker = Executors.newSingleThreadExecutor()
    private val main = Handler(Looper.getMainLooper())
    private var job: Job? = null

    /** Called on the main thread after each change. */
    var onChange: () -> Unit = {}

    var state = restored()
        private set

    fun choosePrecision(precision: Precision) {
        preferences.edit().putString(PRECISION, precision.name).apply()
        change(state.copy(precision = precision))
    }

    fun choosePhotographs(photographs: List<Uri>) = start("Reading the photographs") {
        if (photographs.size != 3) throw PocketError("A bracket is three photographs, and ${photographs.size} were chosen.")
        taken(store.take(context.contentResolver, photographs))
    }

    fun takeBracket(frames: List<CapturedFrame>) = start("Storing the bracket") {
        taken(store.take(frames))
    }

    fun fuse() = start("Fusing") { job ->
        fusion.fuse(state.precision, job)
        post { change(state.copy(result = state.result + 1, message = results.summary.orEmpty())) }
    }

    fun measure() = start("Measuring") { job ->
        val text = fusion.measure(state.precision, job)
        post { change(state.copy(message = text)) }
    }

    fun save() = start("Saving") {
        if (results.summary == null) throw PocketError("There is nothing to save yet. Fuse a bracket first.")
        val name = "pockethdr_${System.currentTimeMillis()}.jpg"
        saveToGallery(context, name, "image/jpeg") { out -> results.picture.inputStream().use { it.copyTo(out) } }
        say("Saved as $name in Pictures/PocketHDR.")
    }

    fun cancel() {
        job?.cancelled = true
    }

    fun say(message: String) = post { change(state.copy(message = message)) }

    private fun taken(bracket: Bracket) {
        val text = bracket.describe()
        preferences.edit().putString(BRACKET, text).apply()
        post { change(state.copy(bracket = text, message = "")) }
    }

    /** Runs [work] in the background, one at a time; whatever goes wrong becomes a sentence. */
    private fun start(what: String, work: (Job) -> Unit) {
        if (state.work != null) return
        val job = Job().also { this.job = it }
        change(state.copy(work = what, done = 0, total = 0, message = ""))
        worker.execute {
            sentence {
                interrupted.writeText(what)
                work(job)
            }?.let { say(it) }
            interrupted.delete()
            post { change(state.copy(work = null)) }
        }
    }

    private fun sentence(work: () -> Unit): String? = try {
        work()
        null
    } catch (stopped: CancellationException) {
        "Stopped."
    } catch (refused: PocketError) {
        refused.message
    } catch (refused: SecurityException) {
        "The phone refused: ${refused.message}. Choose the photographs again."
    } catch (failed: IOException) {
        "A file could not be read or written: ${failed.message}."
    } catch (full: OutOfMemoryError) {
        "The pictures are too large for this phone's memory. Choose smaller ones."
    }

    private fun restored(): State {
        val precision = Precision.valueOf(preferences.getString(PRECISION, null) ?: Precision.INT8.name)
        val message = if (interrupted.exists()) {
            "${interrupted.readText()} was interrupted. Nothing is lost: start it again.".also { interrupted.delete() }
        } else {
            results.summary.orEmpty()
        }
        val bracket = if (store.isEmpty) null else preferences.getString(BRACKET, null)
        return State(precision, bracket, result = if (results.summary == null) 0 else 1, message = message)
    }

    private fun change(next: State) {
        state = next
        onChange()
    }

    private fun post(work: () -> Unit) {
        main.post(work)
    }

    /** A piece of work that can be stopped between two tiles. */
    private inner class Job : Progress {
        @Volatile var cancelled = false

        override fun tile(done: Int, total: Int) {
            if (cancelled) throw CancellationException()
            post { change(state.copy(done = done, total = total)) }
        }
    }

    private companion object {
        const val PRECISION = "precision"
        const val BRACKET = "bracket"
    }
}
