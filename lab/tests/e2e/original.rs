//! The original's way, for comparison: what the numbers in the demo are measured against.

use std::time::Duration;

use narrowgate_lab::original::original_way;
use narrowgate_lab::{Lab, Options};

/// Slow, and so only on request: `cargo test -p narrowgate-lab -- --ignored`. The demo runs the same.
#[test]
#[ignore = "takes the original's 51 s"]
fn the_originals_way_comes_up_late() {
    let lab = Lab::new(Options::default()).unwrap();
    let original = original_way(&lab).unwrap();
    let up = lab.wait_tunnel(&original.fastd, Duration::from_secs(90)).unwrap();
    let seconds = up.duration_since(original.fastd.started).as_secs_f32();
    println!("{seconds:.1} s from fastd's start to the tunnel\n{}", lab.read_log("original-first"));
    assert!(seconds > 5.0, "the original's way took {seconds:.1} s");
}
