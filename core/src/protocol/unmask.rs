//! Masking and unmasking of payloads (RFC 6455 section 5.3), in place; AVX2 is chosen at run time.
//!
//! The only module of this crate with unsafe code: the call of a function compiled for AVX2, after the check that the
//! processor has it. Programs and bindings are built for plain x86-64, where the compiler may not assume it.

/// From this size the wider registers are worth the check for them.
const LARGE: usize = 256;

/// Masks or unmasks a payload whose first byte meets the first byte of the key.
#[inline]
pub fn unmask(payload: &mut [u8], key: [u8; 4]) {
    if payload.len() < LARGE { xor_short(payload, key) } else { xor_long(payload, key) }
}

/// Masks or unmasks a part of a payload that begins `offset` bytes into it.
#[inline]
pub fn unmask_from(payload: &mut [u8], key: [u8; 4], offset: usize) {
    let [a, b, c, d] = key;
    let rotated = match offset % 4 {
        0 => key,
        1 => [b, c, d, a],
        2 => [c, d, a, b],
        _ => [d, a, b, c],
    };
    unmask(payload, rotated);
}

/// Inline, sixteen bytes a step, for the many messages that are shorter than a function call is dear.
#[inline]
fn xor_short(payload: &mut [u8], key: [u8; 4]) {
    let (words, rest) = payload.as_chunks_mut::<16>();
    let wide = u128::from(twice(key));
    let wide = wide | wide << 64;
    for word in words {
        *word = (u128::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    if !rest.is_empty() {
        xor_rest(rest, key);
    }
}

/// The last bytes, fewer than a block.
#[inline]
fn xor_rest(rest: &mut [u8], key: [u8; 4]) {
    let (words, rest) = rest.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ twice(key)).to_ne_bytes();
    }
    let (words, rest) = rest.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[inline(never)]
fn xor_long(payload: &mut [u8], key: [u8; 4]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as checked in the line above; the function has no other condition.
        return unsafe { xor_avx2(payload, key) };
    }
    xor_blocks(payload, key);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn xor_avx2(payload: &mut [u8], key: [u8; 4]) {
    xor_blocks(payload, key);
}

/// 256 bytes a step. Plain Rust: inlined into `xor_avx2`, the compiler makes it eight 32-byte operations.
#[inline(always)]
fn xor_blocks(payload: &mut [u8], key: [u8; 4]) {
    let (blocks, rest) = payload.as_chunks_mut::<256>();
    let wide = twice(key);
    for block in blocks {
        for word in block.as_chunks_mut::<8>().0 {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
    }
    xor_short(rest, key);
}

/// The key two times over; which of the two is first makes no difference.
#[inline]
fn twice(key: [u8; 4]) -> u64 {
    let key = u64::from(u32::from_ne_bytes(key));
    key | key << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 section 5.3, letter by letter.
    fn by_the_letter(payload: &[u8], key: [u8; 4], offset: usize) -> Vec<u8> {
        payload.iter().enumerate().map(|(index, byte)| byte ^ key[(index + offset) % 4]).collect()
    }

    #[test]
    fn every_length_alignment_and_phase_agrees_with_the_letter_of_the_rfc() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let bytes: Vec<u8> = (0..1100u32).map(|n| (n * 7 + n / 256) as u8).collect();
        for length in (0..300).chain([511, 512, 513, 1000, 1024, 1030]) {
            for start in 0..5 {
                for offset in 0..5 {
                    let mut payload = bytes[start..start + length].to_vec();
                    let expected = by_the_letter(&payload, key, offset);
                    unmask_from(&mut payload, key, offset);
                    assert_eq!(payload, expected, "length {length}, start {start}, offset {offset}");
                }
                let mut whole = bytes.clone();
                unmask(&mut whole[start..start + length], key);
                assert_eq!(whole[start..start + length], by_the_letter(&bytes[start..start + length], key, 0));
                assert_eq!(whole[..start], bytes[..start]);
                assert_eq!(whole[start + length..], bytes[start + length..]);
            }
        }
    }

    #[test]
    fn the_portable_way_and_the_avx2_way_agree() {
        let key = [1, 2, 3, 0x80];
        let mut portable: Vec<u8> = (0..4099u32).map(|n| n as u8).collect();
        let mut chosen = portable.clone();
        xor_blocks(&mut portable, key);
        unmask(&mut chosen, key);
        assert_eq!(portable, chosen);
    }

    #[test]
    fn masking_twice_is_the_payload_again() {
        let mut payload = b"Hello, world".repeat(100);
        let before = payload.clone();
        unmask(&mut payload, [9, 8, 7, 6]);
        assert_ne!(payload, before);
        unmask(&mut payload, [9, 8, 7, 6]);
        assert_eq!(payload, before);
    }
}
