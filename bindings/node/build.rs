//! Tells the linker what Node-API needs: its functions come from the Node that loads the addon.

fn main() {
    napi_build::setup();
}
