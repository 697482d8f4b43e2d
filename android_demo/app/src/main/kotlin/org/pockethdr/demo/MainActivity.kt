package org.pockethdr.demo

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.ActivityInfo
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.os.Build
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.ProgressBar
import android.widget.RadioGroup
import android.widget.SeekBar
import android.widget.TextView
import java.io.File

/** The one screen: it shows the session's state and passes taps on to it. */
class MainActivity : Activity() {
    private val picture by lazy { findViewById(R.id.picture) as CompareView }
    private val message by lazy { findViewById(R.id.message) as TextView }
    private val bracket by lazy { findViewById(R.id.bracket) as TextView }
    private val progress by lazy { findViewById(R.id.progress) as ProgressBar }
    private val slider by lazy { findViewById(R.id.divider) as SeekBar }
    private val precision by lazy { findViewById(R.id.precision) as RadioGroup }
    private var shownResult = 0

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        onTap(R.id.pick) { pick() }
        onTap(R.id.capture) { startActivity(Intent(this, CaptureActivity::class.java)) }
        onTap(R.id.fuse) { session.fuse() }
        onTap(R.id.measure) { session.measure() }
        onTap(R.id.save) { save() }
        onTap(R.id.cancel) { session.cancel() }
        precision.check(if (session.state.precision == Precision.INT8) R.id.int8 else R.id.fp16)
        precision.setOnCheckedChangeListener { _, id ->
            session.choosePrecision(if (id == R.id.int8) Precision.INT8 else Precision.FP16)
        }
        slider.setOnSeekBarChangeListener(Divider())
    }

    override fun onStart() {
        super.onStart()
        session.onChange = ::show
        show()
    }

    override fun onStop() {
        session.onChange = {}
        super.onStop()
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        if (request != PICK || data == null) return
        val clip = data.clipData
        session.choosePhotographs(if (clip == null) listOfNotNull(data.data) else List(clip.itemCount) { clip.getItemAt(it).uri })
    }

    override fun onRequestPermissionsResult(request: Int, permissions: Array<String>, granted: IntArray) {
        if (granted.firstOrNull() == PackageManager.PERMISSION_GRANTED) session.save()
        else session.say(getString(R.string.storage_refused))
    }

    private fun show() {
        val state = session.state
        val busy = state.work != null
        message.text = state.message
        bracket.text = state.work?.let { work -> if (state.total > 0) "$work: ${state.done} of ${state.total}" else "$work…" }
            ?: state.bracket ?: getString(R.string.no_bracket)
        progress.visibility = if (busy) View.VISIBLE else View.INVISIBLE
        progress.isIndeterminate = state.total == 0
        progress.max = state.total
        progress.progress = state.done
        for (id in listOf(R.id.pick, R.id.capture, R.id.measure, R.id.fp16, R.id.int8)) enable(id, !busy)
        enable(R.id.fuse, !busy && state.bracket != null)
        enable(R.id.save, !busy && state.result > 0)
        enable(R.id.cancel, busy)
        if (state.result != shownResult) showPictures(state.result)
    }

    private fun showPictures(result: Int) {
        shownResult = result
        picture.fused = decoded(session.results.picture)
        picture.reference = decoded(session.results.reference)
        // Android itself reads the gain map of an Ultra HDR file, where it knows the format.
        val hdr = Build.VERSION.SDK_INT >= Build.VERSION_CODES.UPSIDE_DOWN_CAKE && picture.fused?.hasGainmap() == true
        window.colorMode = if (hdr) ActivityInfo.COLOR_MODE_HDR else ActivityInfo.COLOR_MODE_DEFAULT
    }

    /** As large as the screen needs; a whole photograph would be too much for the canvas. */
    private fun decoded(file: File): Bitmap? {
        val options = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        BitmapFactory.decodeFile(file.path, options)
        val screen = maxOf(resources.displayMetrics.widthPixels, resources.displayMetrics.heightPixels)
        options.inSampleSize = maxOf(1, maxOf(options.outWidth, options.outHeight) / screen)
        options.inJustDecodeBounds = false
        return BitmapFactory.decodeFile(file.path, options)
    }

    private fun pick() {
        val photographs = Intent(Intent.ACTION_OPEN_DOCUMENT)
            .addCategory(Intent.CATEGORY_OPENABLE)
            .setType("image/*")
            .putExtra(Intent.EXTRA_ALLOW_MULTIPLE, true)
        startActivityForResult(photographs, PICK)
    }

    private fun save() {
        val permission = Manifest.permission.WRITE_EXTERNAL_STORAGE
        val granted = checkSelfPermission(permission) == PackageManager.PERMISSION_GRANTED
        if (NEEDS_STORAGE_PERMISSION && !granted) requestPermissions(arrayOf(permission), SAVE) else session.save()
    }

    private fun onTap(id: Int, work: () -> Unit) = (findViewById(id) as Button).setOnClickListener { work() }

    private fun enable(id: Int, enabled: Boolean) {
        findViewById(id).isEnabled = enabled
    }

    private inner class Divider : SeekBar.OnSeekBarChangeListener {
        override fun onProgressChanged(bar: SeekBar, value: Int, byUser: Boolean) {
            picture.divider = value / bar.max.toFloat()
        }

        override fun onStartTrackingTouch(bar: SeekBar) = Unit
        override fun onStopTrackingTouch(bar: SeekBar) = Unit
    }

    private companion object {
        const val PICK = 1
        const val SAVE = 2
    }
}
