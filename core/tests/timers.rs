//! Timers of the program: their order, cancelling, and setting them from inside one another.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use support::{DEADLINE, RawPeer, Script, Server};
use wsx_core::{Address, EventLoop, Handler, Options};

/// Turns a loop until something holds.
#[track_caller]
fn turn_until(event_loop: &mut EventLoop, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "it does not come about");
        event_loop.turn(Some(Duration::from_millis(50))).unwrap();
    }
}

/// Does something when it is dropped.
struct OnDrop<F: FnMut() + Send + 'static>(F);

impl<F: FnMut() + Send + 'static> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn timers_run_in_the_order_of_their_times_and_then_of_their_making() {
    let mut event_loop = EventLoop::new().unwrap();
    let (sender, receiver) = mpsc::channel();
    for (after, name) in [(30, "d"), (5, "b"), (0, "a"), (5, "c"), (60, "e")] {
        let sender = sender.clone();
        event_loop.set_timer(Duration::from_millis(after), move || sender.send(name).unwrap()).unwrap();
    }
    let mut run = Vec::new();
    turn_until(&mut event_loop, || {
        run.extend(receiver.try_iter());
        run.len() == 5
    });
    assert_eq!(run, ["a", "b", "c", "d", "e"]);
    assert_eq!(event_loop.next_deadline().unwrap(), None);
}

#[test]
fn a_timer_never_runs_early_and_a_cancelled_one_never() {
    let mut event_loop = EventLoop::new().unwrap();
    let (sender, receiver) = mpsc::channel();
    let cancelled = sender.clone();
    let cancelled = event_loop.set_timer(Duration::from_millis(10), move || cancelled.send(()).unwrap()).unwrap();
    let began = Instant::now();
    event_loop.set_timer(Duration::from_millis(30), move || sender.send(()).unwrap()).unwrap();
    cancelled.cancel().unwrap();
    cancelled.cancel().unwrap();
    let deadline = event_loop.next_deadline().unwrap().unwrap();
    assert!(deadline > Duration::from_millis(15), "a cancelled timer wakes the loop: {deadline:?}");
    let mut run = 0;
    turn_until(&mut event_loop, || {
        run += receiver.try_iter().count();
        run == 1
    });
    assert!(began.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_timer_may_cancel_another_that_is_due_and_set_itself_again() {
    let mut event_loop = EventLoop::new().unwrap();
    let (sender, receiver) = mpsc::channel();
    let victim = Arc::new(Mutex::new(None));
    let (target, handle) = (victim.clone(), event_loop.handle());
    event_loop
        .set_timer(Duration::ZERO, move || {
            let timer: wsx_core::Timer = target.lock().unwrap().take().unwrap();
            timer.cancel().unwrap();
            again(handle, 3, sender);
        })
        .unwrap();
    let timer = event_loop.set_timer(Duration::ZERO, || unreachable!("it was cancelled")).unwrap();
    *victim.lock().unwrap() = Some(timer);
    let mut run = Vec::new();
    turn_until(&mut event_loop, || {
        run.extend(receiver.try_iter());
        run.len() == 3
    });
    assert_eq!(run, [3, 2, 1]);
}

fn again(handle: wsx_core::Handle, rest: u32, told: mpsc::Sender<u32>) {
    if rest != 0 {
        let next = handle.clone();
        let call = move || {
            told.send(rest).unwrap();
            again(next, rest - 1, told);
        };
        handle.set_timer(Duration::from_millis(1), call).unwrap();
    }
}

#[test]
fn a_timer_of_no_duration_that_sets_itself_again_does_not_hold_the_loop() {
    fn forever(handle: wsx_core::Handle, done: Arc<AtomicBool>) {
        if !done.load(Ordering::SeqCst) {
            let next = handle.clone();
            handle.set_timer(Duration::ZERO, move || forever(next, done)).unwrap();
        }
    }
    let server = Server::start(&Options::default(), Script::echo());
    let done = Arc::new(AtomicBool::new(false));
    // Whatever becomes of the test, the loop must end.
    let end = OnDrop({
        let done = done.clone();
        move || done.store(true, Ordering::SeqCst)
    });
    let handle = server.handle.clone();
    server.handle.post(move || forever(handle, done)).unwrap();
    let mut peer = RawPeer::connect(server.address());
    peer.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    peer.write(support::upgrade("a", "/", "").as_bytes());
    peer.expect_upgrade();
    peer.send_text("served");
    peer.expect_text("served");
    drop(end);
}

#[test]
fn no_part_of_a_millisecond_is_lost() {
    let mut event_loop = EventLoop::new().unwrap();
    // The timer is set at many places within a millisecond, and the loop never sleeps past it.
    for place in 0..40 {
        let (sender, receiver) = mpsc::channel();
        let aside = Instant::now();
        while aside.elapsed() < Duration::from_micros(place * 25) {}
        let began = Instant::now();
        event_loop.set_timer(Duration::from_millis(2), move || sender.send(began.elapsed()).unwrap()).unwrap();
        let after = loop {
            event_loop.turn(Some(Duration::ZERO)).unwrap();
            if let Ok(after) = receiver.try_recv() {
                break after;
            }
            assert!(began.elapsed() < DEADLINE);
        };
        assert!(after >= Duration::from_millis(2), "{after:?}");
    }
}

struct Nothing;
impl Handler for Nothing {}

#[test]
fn the_deadline_of_a_connection_that_is_gone_is_nobodys() {
    let mut event_loop = EventLoop::new().unwrap();
    let listener = event_loop.listen("127.0.0.1:0", &Options::default(), Nothing).unwrap();
    let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("no TCP address") };
    let opening = std::thread::spawn(move || RawPeer::open(address));
    while !opening.is_finished() {
        event_loop.turn(Some(Duration::from_millis(1))).unwrap();
    }
    let peer = opening.join().unwrap();
    while event_loop.connection_count().unwrap() != 1 {
        event_loop.turn(Some(Duration::from_millis(1))).unwrap();
    }
    assert!(event_loop.next_deadline().unwrap().is_some(), "the heartbeat");
    peer.reset();
    while event_loop.connection_count().unwrap() != 0 {
        event_loop.turn(Some(Duration::from_millis(1))).unwrap();
    }
    assert_eq!(event_loop.next_deadline().unwrap(), None);
}
