//! What waits, leaves and is dropped, at every place of a frame.

use super::*;
use crate::protocol::frame::OpCode;

fn text(out: &mut Vec<u8>, payload: &[u8]) {
    frame::append(out, OpCode::Text, true, payload, None);
}

fn waiting(outbox: &Outbox) -> Vec<u8> {
    outbox.with_slices(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect())
}

#[test]
fn own_and_shared_bytes_keep_the_order_of_the_calls() {
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    outbox.append(&mut spares, |out| out.extend(b"a"));
    outbox.push_shared(&Arc::new(b"bc".to_vec()));
    outbox.append(&mut spares, |out| out.extend(b"d"));
    outbox.append(&mut spares, |out| out.extend(b"e"));
    assert_eq!(waiting(&outbox), b"abcde");
    outbox.advance(2, &mut spares);
    assert_eq!(waiting(&outbox), b"cde");
    outbox.advance(3, &mut spares);
    assert!(outbox.is_empty() && outbox.front.is_none() && outbox.more.is_none());
}

#[test]
fn an_empty_outbox_owns_no_buffer_and_lends_the_old_one_again() {
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    outbox.append(&mut spares, |out| out.extend(b"abc"));
    outbox.advance(3, &mut spares);
    assert!(outbox.front.is_none());
    assert_eq!(spares.buffers.len(), 1);
    outbox.append(&mut spares, |out| out.extend(b"d"));
    assert_eq!((spares.buffers.len(), spares.bytes), (0, 0));
}

#[test]
fn what_a_loop_keeps_to_lend_is_bounded() {
    let (small, large) = (MAX_SPARES + 1, MAX_SPARE_BYTES / MAX_SPARE + 1);
    for (count, size, kept) in [(small, 100, MAX_SPARES), (large, MAX_SPARE, large - 1), (1, MAX_SPARE + 1, 0)] {
        let mut spares = Spares::default();
        (0..count).for_each(|_| spares.give_back(Chunk::Own(Vec::with_capacity(size))));
        assert_eq!((spares.buffers.len(), spares.bytes), (kept, kept * size), "{count} of {size} bytes");
        (0..kept).for_each(|_| assert!(spares.lend().capacity() == size));
        assert_eq!(spares.bytes, 0);
    }
}

#[test]
fn dropping_keeps_the_frame_in_progress_and_nothing_else() {
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    outbox.append(&mut spares, |out| (0..3).for_each(|_| text(out, b"hello")));
    outbox.push_shared(&Arc::new(b"\x81\x00\x89\x00\x82\x01x".to_vec()));
    outbox.advance(11, &mut spares);
    assert_eq!(outbox.drop_unbegun(Role::Server, 0), (14, 3), "one of its own and two shared ones; a ping is none");
    assert_eq!(waiting(&outbox), b"llo");
    outbox.append(&mut spares, |out| text(out, b""));
    assert_eq!(waiting(&outbox), b"llo\x81\x00");
}

#[test]
fn dropping_between_frames_keeps_nothing() {
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    outbox.append(&mut spares, |out| (0..3).for_each(|_| text(out, b"hello")));
    outbox.advance(7, &mut spares);
    outbox.drop_unbegun(Role::Server, 0);
    assert!(outbox.is_empty());
}

#[test]
fn dropping_finds_the_frames_of_a_client_as_well() {
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    for _ in 0..2 {
        outbox.append(&mut spares, |out| frame::append(out, OpCode::Binary, true, &[7; 300], Some([1, 2, 3, 4])));
    }
    outbox.advance(10, &mut spares);
    outbox.drop_unbegun(Role::Client, 0);
    assert_eq!(outbox.len(), 308 - 10);
}

#[test]
fn dropping_keeps_what_is_encrypted_up_to_the_end_of_its_last_frame() {
    let outbox_of = |spares: &mut Spares| {
        let mut outbox = Outbox::default();
        outbox.append(spares, |out| (0..3).for_each(|_| text(out, b"hello")));
        outbox.push_shared(&Arc::new(b"\x81\x02ab\x81\x02cd".to_vec()));
        outbox.append(spares, |out| text(out, b"x"));
        outbox
    };
    let all = waiting(&outbox_of(&mut Spares::default()));
    for (written, committed, end, lost) in [
        (0, 0, 0, 6),
        (0, 1, 7, 5),
        (2, 5, 7, 5),
        (2, 6, 14, 4),
        (2, 19, 21, 3),
        (2, 20, 25, 2),
        (7, 14, 21, 3),
        (7, 18, 25, 2),
        (7, 19, 29, 1),
        (0, 32, 32, 0),
    ] {
        let mut spares = Spares::default();
        let mut outbox = outbox_of(&mut spares);
        outbox.advance(written, &mut spares);
        let what = format!("{written} written, {committed} committed");
        assert_eq!(outbox.drop_unbegun(Role::Server, committed), (all.len() - end, lost), "{what}");
        assert_eq!((waiting(&outbox), outbox.len()), (all[written..end].to_vec(), end - written), "{what}");
        // What has begun stays, however often the rest is dropped.
        outbox.append(&mut spares, |out| text(out, b"late"));
        assert_eq!(outbox.drop_unbegun(Role::Server, committed), (6, 1), "{what}");
        assert_eq!(waiting(&outbox), all[written..end], "{what}");
    }
}

#[test]
fn messages_that_are_not_written_whole_are_counted() {
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    outbox.append(&mut spares, |out| out.extend(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"));
    let head = outbox.len();
    outbox.append(&mut spares, |out| text(out, b"hello"));
    outbox.push_shared(&Arc::new(b"\x81\x00\x89\x00\x01\x01a\x80\x01b\x82\x01x".to_vec()));
    outbox.append(&mut spares, |out| text(out, b"last"));
    for (count, left) in [(0, 5), (head, 5), (6, 5), (1, 4), (2, 3), (2, 3), (3, 3), (2, 3), (1, 2), (8, 1), (1, 0)] {
        outbox.advance(count, &mut spares);
        assert_eq!(outbox.count_unwritten(Role::Server), left, "{:?}", waiting(&outbox));
    }
    outbox.push_rest(b"of a message".to_vec());
    outbox.append(&mut spares, |out| text(out, b"hello"));
    outbox.advance(3, &mut spares);
    assert_eq!(outbox.count_unwritten(Role::Server), 2);
    outbox.advance(9, &mut spares);
    assert_eq!(outbox.count_unwritten(Role::Server), 1);
}

#[test]
fn a_frame_whose_payload_was_given_away_is_written_where_it_lies_and_kept_or_dropped_whole() {
    let given = |payload: &[u8]| {
        let (header, size) = frame::encode_header(OpCode::Binary, true, payload.len(), None);
        Frame::new(&header[..size], Box::new(payload.to_vec()))
    };
    for written in 0..=13 {
        let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
        outbox.push_frame(given(b"first"));
        outbox.append(&mut spares, |out| out.extend(b"\x81\x01a"));
        outbox.push_frame(given(b"z"));
        let all = b"\x82\x05first\x81\x01a\x82\x01z";
        assert_eq!((waiting(&outbox), outbox.len()), (all.to_vec(), all.len()));
        outbox.advance(written, &mut spares);
        assert_eq!((waiting(&outbox), outbox.len()), (all[written..].to_vec(), all.len() - written), "{written}");
        let end = [0, 7, 10, 13].into_iter().find(|end| *end >= written).unwrap();
        let lost = [0, 7, 10].into_iter().filter(|begin| *begin >= end).count() as u32;
        assert_eq!(outbox.drop_unbegun(Role::Server, 0), (all.len() - end, lost), "{written}");
        assert_eq!((waiting(&outbox), outbox.len()), (all[written..end].to_vec(), end - written), "{written}");
    }
}

#[test]
fn one_write_is_bounded() {
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    outbox.append(&mut spares, |out| out.resize(MAX_WRITE * 2, 0));
    assert_eq!(waiting(&outbox).len(), MAX_WRITE);
    outbox.push_shared(&Arc::new(vec![0; 10]));
    assert_eq!(waiting(&outbox).len(), MAX_WRITE);
}
