package org.pockethdr.demo

import android.Manifest
import android.app.Activity
import android.content.pm.PackageManager
import android.os.Bundle
import android.view.SurfaceHolder
import android.view.SurfaceView
import android.widget.Button
import android.widget.CheckBox
import android.widget.TextView

/** Viewfinder and shutter. A bracket goes to the session, raw files to the gallery. */
class CaptureActivity : Activity(), SurfaceHolder.Callback, BracketCamera.Listener {
    private val message by lazy { findViewById(R.id.capture_message) as TextView }
    private val raw by lazy { findViewById(R.id.raw) as CheckBox }
    private val viewfinder by lazy { findViewById(R.id.viewfinder) as SurfaceView }
    private var camera: BracketCamera? = null

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.capture)
        (findViewById(R.id.shutter) as Button).setOnClickListener { camera?.shoot() }
        raw.setOnCheckedChangeListener { _, _ -> reopen() }
        if (!allowed()) requestPermissions(arrayOf(Manifest.permission.CAMERA), CAMERA)
        viewfinder.holder.addCallback(this)
    }

    override fun surfaceCreated(holder: SurfaceHolder) = reopen()
    override fun surfaceChanged(holder: SurfaceHolder, format: Int, width: Int, height: Int) = Unit
    override fun surfaceDestroyed(holder: SurfaceHolder) = close()

    override fun onRequestPermissionsResult(request: Int, permissions: Array<String>, granted: IntArray) {
        if (allowed()) reopen() else message.setText(R.string.camera_refused)
    }

    override fun onReady(description: String) = runOnUiThread { message.text = description }

    override fun onProblem(sentence: String) = runOnUiThread { message.text = sentence }

    override fun onBracket(frames: List<CapturedFrame>) = runOnUiThread {
        session.takeBracket(frames)
        finish()
    }

    override fun onRawSaved(names: List<String>) = runOnUiThread {
        message.text = getString(R.string.raw_saved, names.joinToString())
    }

    private fun allowed() = checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED

    private fun reopen() {
        close()
        if (!allowed() || !viewfinder.holder.surface.isValid) return
        camera = BracketCamera(this, viewfinder.holder.surface, raw.isChecked, this).apply { open() }
    }

    private fun close() {
        camera?.close()
        camera = null
    }

    private companion object {
        const val CAMERA = 1
    }
}
