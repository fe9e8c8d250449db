{
  "target_defaults": {
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
    "cflags_cc": [
      "-std=c++20", "-fno-exceptions", "-fno-rtti",
      "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror",
      # Wrong in GCC 12 for every "text" + std::string (GCC bug 105651).
      "-Wno-restrict"
    ],
    "cflags!": ["-Wno-unused-parameter"],
    "include_dirs": ["native"]
  },
  "targets": [
    {
      "target_name": "arca_core",
      "type": "static_library",
      "cflags": ["-fPIC"],
      "sources": [
        "<!@(ls native/record/*.cc native/io/*.cc native/proxy/*.cc native/relay/*.cc)"
      ]
    },
    {
      "target_name": "arca_native",
      "sources": ["native/addon.cc"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS", "NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED",
        # What is thrown while the environment is being terminated is lost; else it aborts the process.
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "dependencies": [
        "arca_core",
        "<!(node -p \"require('node-addon-api').targets\"):node_addon_api"
      ]
    },
    {
      "target_name": "arca-tap",
      "type": "executable",
      "sources": ["native/arca_tap.cc"],
      "defines": ["ARCA_VERSION=\"<!(node -p \"require('./package.json').version\")\""],
      "ldflags": ["-static"],
      "dependencies": ["arca_core"]
    }
  ]
}
