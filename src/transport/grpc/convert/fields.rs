//! Protobuf, field by field, where it lies: for the few messages of which there are many.
//!
//! What is read here is also read by the generated code, which judges: whatever is unusual is [`Odd`], and left to it.

use crate::model::Place;

/// Something that the generated code shall judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Odd;

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Varint(u64),
    /// A string, bytes, or a message.
    Long(Place),
    /// A fixed number: no field that is read here has one.
    Fixed,
}

impl Value {
    pub(super) fn span(self) -> Result<Place, Odd> {
        if let Self::Long(span) = self { Ok(span) } else { Err(Odd) }
    }

    pub(super) fn int64(self) -> Result<i64, Odd> {
        if let Self::Varint(number) = self { Ok(number.cast_signed()) } else { Err(Odd) }
    }

    /// Of more than 32 bits the lower ones count, as everywhere in protobuf.
    pub(super) fn int32(self) -> Result<i32, Odd> {
        self.int64().map(|number| number as i32)
    }
}

/// The fields of one message within a frame.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    frame: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn of(frame: &'a [u8]) -> Self {
        Self { frame, at: 0, end: frame.len() }
    }

    /// Those of a message that is a field itself.
    pub(super) fn within(frame: &'a [u8], span: Place) -> Self {
        let range = span.range();
        Self { frame, at: range.start, end: range.end.min(frame.len()) }
    }

    /// The next field's number and value.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value)>, Odd> {
        if self.at >= self.end {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key).map_err(|_| Odd)? >> 3;
        let value = match key & 7 {
            _ if number == 0 => return Err(Odd),
            0 => Value::Varint(self.varint()?),
            1 => self.skip(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Odd)?;
                Value::Long(self.skip(length)?)
            }
            5 => self.skip(4).map(|_| Value::Fixed)?,
            _ => return Err(Odd),
        };
        Ok(Some((number, value)))
    }

    fn skip(&mut self, length: usize) -> Result<Place, Odd> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.end).ok_or(Odd)?;
        let span = Place::new(self.at, end).ok_or(Odd)?;
        self.at = end;
        Ok(span)
    }

    fn byte(&mut self) -> Result<u8, Odd> {
        if self.at >= self.end {
            return Err(Odd);
        }
        let byte = *self.frame.get(self.at).ok_or(Odd)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, Odd> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut number = u64::from(first & 0x7F);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return if shift == 63 && byte > 1 { Err(Odd) } else { Ok(number) };
            }
        }
        Err(Odd)
    }
}

/// A string, which must be UTF-8.
pub(super) fn text(frame: &[u8], value: Value) -> Result<&str, Odd> {
    std::str::from_utf8(value.span()?.of(frame)).map_err(|_| Odd)
}

/// Writes a field with a length.
pub(super) fn put(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    put_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// What stands before the bytes of a field with a length.
pub(super) fn put_head(out: &mut Vec<u8>, number: u8, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

pub(super) fn put_number(out: &mut Vec<u8>, number: u8, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Bytes that [`put`] writes for a number up to 15.
pub(super) fn size(length: usize) -> usize {
    1 + varint_size(length as u64) + length
}

pub(super) fn varint_size(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(frame: &[u8]) -> Result<Vec<(u32, Value)>, Odd> {
        let mut fields = Fields::of(frame);
        std::iter::from_fn(|| fields.next().transpose()).collect()
    }

    #[test]
    fn what_is_unusual_is_odd() {
        for odd in [
            &[0x0A][..],                                                            // a length is missing
            &[0x0A, 2, b'x'],                                                       // and bytes
            &[0x08, 0x80],                                                          // a number without end
            &[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2],       // more than 64 bits
            &[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0], // too long
            &[0x0B],                                                                // a group
            &[0x02, 0],                                                             // number 0
            &[0x09, 0, 0],                                                          // a short fixed number
            &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],       // a length beyond all memory
        ] {
            assert_eq!(all(odd), Err(Odd), "{odd:X?}");
        }
    }

    #[test]
    fn fields_come_in_order_and_fixed_ones_are_skipped() {
        let frame = [0x08, 0x96, 1, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0x1A, 1, b'x', 0x25, 0, 0, 0, 0];
        let fields = all(&frame).unwrap();
        assert_eq!(fields.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!((fields[0].1, text(&frame, fields[2].1)), (Value::Varint(150), Ok("x")));
        assert_eq!(text(&[0x0A, 1, 0xFF], Value::Long(Place::new(2, 3).unwrap())), Err(Odd));
    }

    #[test]
    fn numbers_of_every_length_are_written_as_short_as_can_be_and_read() {
        let edges = (0..64).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        for number in edges.chain([u64::MAX]) {
            let mut frame = Vec::new();
            put_number(&mut frame, 3, number);
            assert_eq!(frame.len(), 1 + varint_size(number), "{number}");
            assert_eq!(all(&frame), Ok(vec![(3, Value::Varint(number))]), "{number}");
        }
        assert_eq!([0, 1, 127, 128, 1 << 14, u64::MAX].map(varint_size), [1, 1, 1, 2, 3, 10]);
    }

    #[test]
    fn a_number_of_more_than_32_bits_is_cut_as_the_generated_code_does() {
        let number = Value::Varint((7 << 32) | 5);
        assert_eq!((number.int32(), number.int64()), (Ok(5), Ok((7 << 32) | 5)));
        assert_eq!((Value::Fixed.int32(), Value::Varint(1).span()), (Err(Odd), Err(Odd)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in any::<u64>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut frame = vec![0x08];
            put_varint(&mut frame, number);
            prop_assert_eq!(frame.len(), 1 + varint_size(number));
            put(&mut frame, 2, &bytes);
            prop_assert_eq!(frame.len(), 1 + varint_size(number) + size(bytes.len()));
            let fields = all(&frame).unwrap();
            prop_assert_eq!(fields[0], (1, Value::Varint(number)));
            prop_assert_eq!(fields[1].1.span().unwrap().of(&frame), &bytes[..]);
        }

        #[test]
        fn no_bytes_panic(noise in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = all(&noise);
        }
    }
}
