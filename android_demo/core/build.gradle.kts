import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

kotlin {
    compilerOptions { jvmTarget = JvmTarget.JVM_1_8 }
}

dependencies {
    testImplementation(libs.junit)
}

tasks.test {
    // Written by `make android-test`; without them the tests that need them are skipped.
    System.getenv("POCKETHDR_GOLDENS")?.let { systemProperty("pockethdr.goldens", it) }
}
