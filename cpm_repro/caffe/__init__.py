"""Caffe's files and semantics without Caffe: prototxt, caffemodel, solverstate, nets, SGD."""

from cpm_repro.caffe.caffemodel import CaffeModel, ModelLayer, read_caffemodel, read_model, write_caffemodel
from cpm_repro.caffe.datum import Datum, decode_datum, encode_datum, encode_encoded_datum
from cpm_repro.caffe.prototxt import (
    format_prototxt,
    parse_prototxt,
    read_prototxt,
    read_solver,
    write_prototxt,
)
from cpm_repro.caffe.solverstate import SolverState, read_solverstate, write_solverstate

__all__ = [
    "CaffeModel",
    "Datum",
    "ModelLayer",
    "SolverState",
    "decode_datum",
    "encode_datum",
    "encode_encoded_datum",
    "format_prototxt",
    "parse_prototxt",
    "read_caffemodel",
    "read_model",
    "read_prototxt",
    "read_solver",
    "read_solverstate",
    "write_caffemodel",
    "write_prototxt",
    "write_solverstate",
]
