plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "org.pockethdr.demo"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        applicationId = "org.pockethdr.demo"
        minSdk = libs.versions.minSdk.get().toInt()
        targetSdk = libs.versions.targetSdk.get().toInt()
        versionCode = 1
        versionName = "0.1.0"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }

    // The artifacts are an export folder of `pockethdr export … --domain rgb --targets tflite`.
    sourceSets["main"].assets.srcDir(
        providers.gradleProperty("pockethdr.export").orElse("$rootDir/../out/android/artifacts/dsan-m32-256"),
    )

    androidResources { noCompress += "tflite" }
}

dependencies {
    implementation(project(":core"))
    implementation(libs.litert)
    implementation(libs.litert.gpu)
}
