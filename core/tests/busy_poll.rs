//! A loop that stays awake for a while before it sleeps keeps its time all the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use wsx_core::{EventLoop, LoopOptions};

#[test]
fn busy_poll_keeps_timeouts_timers_and_wake_ups() {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut options = LoopOptions::default();
        options.busy_poll = Duration::from_millis(2);
        let mut event_loop = EventLoop::with_options(&options).unwrap();
        // Longer than it stays awake: the rest is slept, and no more than the rest.
        let began = Instant::now();
        event_loop.turn(Some(Duration::from_millis(50))).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(50));
        let has_run = Arc::new(AtomicBool::new(false));
        let runs = has_run.clone();
        event_loop.set_timer(Duration::from_millis(30), move || runs.store(true, Ordering::SeqCst)).unwrap();
        while !has_run.load(Ordering::SeqCst) {
            event_loop.turn(None).unwrap();
        }
        let handle = event_loop.handle();
        let waking = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            handle.stop().unwrap();
        });
        event_loop.run().unwrap();
        waking.join().unwrap();
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(20)).expect("the loop oversleeps");
}
