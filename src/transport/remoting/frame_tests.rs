use proptest::prelude::*;

use super::*;

fn frame(form: HeaderForm, header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write_head(form, body.len(), &mut out, |out| out.extend_from_slice(header)).unwrap();
    out.extend_from_slice(body);
    out.to_vec()
}

/// Feeds `bytes` in pieces of `step`, as a socket would: never more than there is room for.
fn feed(intake: &mut Intake, mut bytes: &[u8], step: usize) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let room = intake.room();
        let taken = (room.capacity() - room.len()).min(step).min(bytes.len());
        assert!(taken > 0, "there is always room");
        room.extend_from_slice(&bytes[..taken]);
        bytes = &bytes[taken..];
        while let Some(frame) = intake.next()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

#[test]
fn the_prefix_is_that_of_the_protocol_page() {
    let header = br#"{"code":105,"extFields":{"topic":"T"},"flag":0,"language":"RUST","opaque":1,"serializeTypeCurrentRPC":"JSON","version":479}"#;
    assert_eq!(frame(HeaderForm::Json, header, b"")[..8], [0, 0, 0, 0x7f, 0, 0, 0, 0x7b]);
    assert_eq!(frame(HeaderForm::Binary, b"", b"")[4], 1);
}

#[test]
fn frames_that_cannot_be_are_told_as_soon_as_they_can() {
    let cases: [(&[u8], FrameError); 8] = [
        (&[0xff, 0xff, 0xff, 0xff], FrameError::TooLong { length: u64::from(u32::MAX) }),
        (&(16u32 << 20).to_be_bytes(), FrameError::TooLong { length: 16 << 20 }),
        (&[0, 0, 0, 3], FrameError::TooShort { length: 3 }),
        (&[0, 0, 0, 0], FrameError::TooShort { length: 0 }),
        (&[0, 0, 0, 9, 0, 0, 0, 6], FrameError::HeaderTooLong { header: 6, length: 9 }),
        (&[0, 0, 0, 9, 7, 0, 0, 0], FrameError::UnknownForm(7)),
        (b"HTTP/1.1 400", FrameError::Http),
        (&[0x15, 3, 3, 0], FrameError::Tls),
    ];
    for (bytes, expected) in cases {
        assert_eq!(feed(&mut Intake::default(), bytes, 100), Err(expected), "{bytes:?}");
    }
}

#[test]
fn a_claim_alone_gets_little_memory() {
    let mut intake = Intake::default();
    let claim = (MAX_FRAME as u32 - 4).to_be_bytes();
    feed(&mut intake, &claim, 4).unwrap();
    feed(&mut intake, &[0; 4], 4).unwrap();
    assert!(intake.room().capacity() <= TRUST);
    let mut have = 8;
    while have < MAX_FRAME - 4096 {
        feed(&mut intake, &[7; 4096], 4096).unwrap();
        have += 4096;
        assert!(intake.room().capacity() <= (2 * have).max(TRUST), "{have}");
    }
}

#[test]
fn a_peer_is_trusted_with_what_it_has_sent_before_and_no_more_than_a_megabyte() {
    for (sent, trusted) in [(300 << 10, 300 << 10), (4 << 20, MOST_TRUST)] {
        let mut intake = Intake::default();
        let first = frame(HeaderForm::Json, b"{}", &vec![1; sent]);
        assert_eq!(feed(&mut intake, &first, 4096).unwrap().len(), 1);
        // The prefix of the longest frame that there can be.
        let claim = [(MAX_FRAME as u32 - 4).to_be_bytes(), [0; 4]].concat();
        assert_eq!(feed(&mut intake, &claim, 8).unwrap(), Vec::new());
        let room = intake.room().capacity();
        assert!((trusted..trusted + BLOCK).contains(&room), "{sent} bytes came, {room} are trusted");
    }
}

#[test]
fn a_long_frame_is_one_chunk_of_exactly_its_length_and_a_short_one_keeps_no_block() {
    let mut intake = Intake::default();
    let bytes = [frame(HeaderForm::Json, b"{}", &[1; 40_000]), frame(HeaderForm::Json, b"{}", b"tiny")].concat();
    let frames = feed(&mut intake, &bytes, 65_536).unwrap();
    let (long, short) = (frames[0].body.clone(), frames[1].body.clone());
    assert_eq!((long.len(), &short[..]), (40_000, &b"tiny"[..]));
    drop(frames);
    assert!(short.is_unique(), "the block that it came in is not kept for it");
    assert!(long.is_unique(), "nothing else holds on to the chunk");
    assert!(long.try_into_mut().is_ok_and(|chunk| chunk.capacity() < 40_000 + 64));
}

#[test]
fn a_connection_may_end_between_frames_only() {
    let mut intake = Intake::default();
    assert_eq!(intake.end(), Ok(()));
    feed(&mut intake, &[0, 0, 0, 9, 0], 9).unwrap();
    assert_eq!(intake.end(), Err(FrameError::Truncated { have: 5, need: 8 }));
    feed(&mut intake, &[0, 0, 2, 1], 9).unwrap();
    assert_eq!(intake.end(), Err(FrameError::Truncated { have: 9, need: 13 }));
    feed(&mut intake, &[1, 2, 3, 4], 9).unwrap();
    assert_eq!(intake.end(), Ok(()));
}

#[test]
fn a_frame_that_nobody_would_read_is_not_written() {
    let mut out = BytesMut::from(&b"before"[..]);
    let error = write_head(HeaderForm::Json, MAX_FRAME, &mut out, |out| out.extend_from_slice(b"{}")).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { .. }));
    assert_eq!(&out[..], b"before");
}

#[test]
fn frames_that_are_written_one_after_the_other_into_one_buffer_are_all_read() {
    let mut out = BytesMut::new();
    let mut expected = Vec::new();
    for (form, header, body) in [
        (HeaderForm::Json, &b"{}"[..], &b"first"[..]),
        (HeaderForm::Binary, b"a longer header than the one before", b""),
        (HeaderForm::Json, b"{\"code\":1}", b"third"),
    ] {
        write_head(form, body.len(), &mut out, |out| out.extend_from_slice(header)).unwrap();
        out.extend_from_slice(body);
        expected.push(Frame { form, header: Bytes::from_static(header), body: Bytes::from_static(body) });
    }
    assert_eq!(feed(&mut Intake::default(), &out, 1_000).unwrap(), expected);
}

#[test]
fn the_longest_frame_that_may_be_is_written_and_read_and_one_byte_more_is_not() {
    let header = b"{}";
    let body = MAX_FRAME - PREFIX - header.len();
    let bytes = frame(HeaderForm::Json, header, &vec![7; body]);
    assert_eq!(bytes.len(), MAX_FRAME);
    let frames = feed(&mut Intake::default(), &bytes, MAX_FRAME).unwrap();
    assert_eq!((frames.len(), frames[0].body.len()), (1, body));
    let longer = write_head(HeaderForm::Json, body + 1, &mut BytesMut::new(), |out| out.extend_from_slice(header));
    assert_eq!(longer, Err(FrameError::TooLong { length: MAX_FRAME as u64 - 3 }));
}

#[test]
fn a_frame_that_fits_the_block_is_awaited_in_it() {
    for whole in [20, BLOCK] {
        let mut intake = Intake::default();
        let block = intake.room().as_ptr();
        let bytes = frame(HeaderForm::Json, b"{}", &vec![1; whole - PREFIX - 2]);
        assert_eq!(feed(&mut intake, &bytes[..whole - 1], BLOCK).unwrap(), []);
        assert_eq!(intake.room().as_ptr(), block, "nothing was moved for a frame of {whole} bytes");
        assert_eq!(feed(&mut intake, &bytes[whole - 1..], BLOCK).unwrap().len(), 1);
    }
}

#[test]
fn what_is_wrong_with_a_peer_is_said_with_what_to_do_about_it() {
    for (error, text) in [
        (
            FrameError::TooLong { length: 1_347_703_880 },
            "a frame of 1347703880 bytes; at most 16777216 are allowed: is this the remoting port of a name server, \
             broker or proxy?",
        ),
        (FrameError::TooShort { length: 3 }, "a frame of 3 bytes, which is less than its own prefix"),
        (FrameError::HeaderTooLong { header: 6, length: 9 }, "a header of 6 bytes in a frame of 9 bytes"),
        (FrameError::UnknownForm(7), "a header in an unknown form (7)"),
        (FrameError::Tls, "the server answers with TLS: write `https://host:port` as the name server"),
        (FrameError::Http, "the server answers in HTTP: is this the remoting port (9876 for a name server)?"),
        (
            FrameError::Truncated { have: 5, need: 8 },
            "the connection ended within a frame, after 5 of at least 8 bytes",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut(
        contents in prop::collection::vec((any::<bool>(), 0usize..200, prop_oneof![0usize..500, 3_000usize..9_000, 60_000usize..300_000]), 1..6),
        step in prop_oneof![1usize..64, 1_000usize..100_000],
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (binary, header, body) in contents {
            let form = if binary { HeaderForm::Binary } else { HeaderForm::Json };
            let (header, body) = (vec![b'h'; header], (0..body).map(|at| at as u8).collect::<Vec<_>>());
            bytes.extend(frame(form, &header, &body));
            expected.push(Frame { form, header: header.into(), body: body.into() });
        }
        let mut intake = Intake::default();
        prop_assert_eq!(feed(&mut intake, &bytes, step).unwrap(), expected);
        prop_assert_eq!(intake.end(), Ok(()));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..200), step in 1usize..50) {
        let mut intake = Intake::default();
        let _ = feed(&mut intake, &bytes, step);
        let _ = intake.end();
    }
}
