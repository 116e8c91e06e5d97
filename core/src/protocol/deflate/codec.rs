//! DEFLATE (RFC 1951) as permessage-deflate uses it: a thin layer over flate2, and what stands in for it in a build
//! without the feature `deflate`, which refuses the option that would lead here.

#[cfg(feature = "deflate")]
pub use with_flate2::{Compressor, Inflater};
#[cfg(not(feature = "deflate"))]
pub use without::{Compressor, Inflater};

/// Whether this build can compress.
pub const IS_BUILT_IN: bool = cfg!(feature = "deflate");

/// What was to be inflated is no DEFLATE data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What one step has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of input that were used.
    pub used: usize,
    /// Bytes of room that were filled. Where that is all of it there may be more to come.
    pub filled: usize,
}

#[cfg(feature = "deflate")]
mod with_flate2 {
    use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

    use super::{Malformed, Step};

    /// Inflates a stream of blocks. Its window is the largest there is: so it takes what any sender's window made.
    #[derive(Debug)]
    pub struct Inflater {
        stream: Box<Decompress>,
        is_at_start: bool,
    }

    impl Default for Inflater {
        fn default() -> Self {
            Self { stream: Box::new(Decompress::new(false)), is_at_start: true }
        }
    }

    impl Inflater {
        /// Forgets everything.
        pub fn reset(&mut self) {
            if !self.is_at_start {
                self.stream.reset(false);
                self.is_at_start = true;
            }
        }

        /// Whether nothing has come since the beginning, or since a block that said it is the last one (BFINAL).
        pub fn is_at_start(&self) -> bool {
            self.is_at_start
        }

        /// Inflates some of `input` into `room`. Behind a last block a new stream begins (RFC 7692 section 7.2.3.5).
        pub fn inflate(&mut self, input: &[u8], room: &mut [u8]) -> Result<Step, Malformed> {
            let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress(input, room, FlushDecompress::None).map_err(|_| Malformed)?;
            // Neither can be more than there was.
            let used = (self.stream.total_in() - before_in) as usize;
            let filled = (self.stream.total_out() - before_out) as usize;
            self.is_at_start &= used == 0;
            if status == Status::StreamEnd {
                self.reset();
            }
            Ok(Step { used, filled })
        }
    }

    /// Compresses a stream of blocks.
    #[derive(Debug)]
    pub struct Compressor {
        stream: Box<Compress>,
        is_at_start: bool,
    }

    impl Compressor {
        /// For a level of 1 to 9 and a window of 9 to 15 bits.
        pub fn new(level: u8, window_bits: u8) -> Self {
            let stream = Compress::new_with_window_bits(Compression::new(level.into()), false, window_bits);
            Self { stream: Box::new(stream), is_at_start: true }
        }

        /// Forgets everything.
        pub fn reset(&mut self) {
            if !self.is_at_start {
                self.stream.reset();
                self.is_at_start = true;
            }
        }

        /// Compresses some of `input` into `room`, up to an empty block at the end of a byte once all of it is used; none
        /// where that cannot be done.
        pub fn compress(&mut self, input: &[u8], room: &mut [u8]) -> Option<Step> {
            let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
            self.stream.compress(input, room, FlushCompress::Sync).ok()?;
            self.is_at_start = false;
            let used = (self.stream.total_in() - before_in) as usize;
            let filled = (self.stream.total_out() - before_out) as usize;
            Some(Step { used, filled })
        }
    }
}

#[cfg(not(feature = "deflate"))]
mod without {
    use super::{Malformed, Step};

    /// There is none.
    #[derive(Debug)]
    pub enum Inflater {}

    /// There is none.
    #[derive(Debug)]
    pub enum Compressor {}

    impl Default for Inflater {
        fn default() -> Self {
            unreachable!("compression is refused by the check of the options")
        }
    }

    impl Inflater {
        pub fn reset(&mut self) {
            match *self {}
        }

        pub fn is_at_start(&self) -> bool {
            match *self {}
        }

        pub fn inflate(&mut self, _: &[u8], _: &mut [u8]) -> Result<Step, Malformed> {
            match *self {}
        }
    }

    impl Compressor {
        pub fn new(_: u8, _: u8) -> Self {
            unreachable!("compression is refused by the check of the options")
        }

        pub fn reset(&mut self) {
            match *self {}
        }

        pub fn compress(&mut self, _: &[u8], _: &mut [u8]) -> Option<Step> {
            match *self {}
        }
    }
}
