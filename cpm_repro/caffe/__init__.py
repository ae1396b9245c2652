"""Caffe's files and semantics without Caffe: prototxt, caffemodel, solverstate, nets, SGD."""

from cpm_repro.caffe.caffemodel import CaffeModel, ModelLayer, read_caffemodel, read_model, write_caffemodel
from cpm_repro.caffe.convert import Conversion, Difference, convert
from cpm_repro.caffe.datum import Datum, decode_datum, encode_datum
from cpm_repro.caffe.generate import REFERENCE_NETS, Prototxts, generate
from cpm_repro.caffe.lr_policy import LrPolicy, policy_of
from cpm_repro.caffe.net import CaffeNet, LoadReport
from cpm_repro.caffe.prototxt import (
    format_prototxt,
    parse_prototxt,
    read_prototxt,
    read_solver,
    write_prototxt,
)
from cpm_repro.caffe.resume import history_of, optimizer_for, restore_history
from cpm_repro.caffe.sgd import CaffeSGD
from cpm_repro.caffe.solverstate import SolverState, read_solverstate, write_solverstate
from cpm_repro.caffe.weight_files import (
    Network,
    WeightFile,
    identify,
    load_weights,
    read_weight_file,
    write_weight_file,
)

__all__ = [
    "REFERENCE_NETS",
    "CaffeModel",
    "CaffeNet",
    "CaffeSGD",
    "Conversion",
    "Datum",
    "Difference",
    "LoadReport",
    "LrPolicy",
    "ModelLayer",
    "Network",
    "Prototxts",
    "SolverState",
    "WeightFile",
    "convert",
    "decode_datum",
    "encode_datum",
    "format_prototxt",
    "generate",
    "history_of",
    "identify",
    "load_weights",
    "optimizer_for",
    "parse_prototxt",
    "policy_of",
    "read_caffemodel",
    "read_model",
    "read_prototxt",
    "read_solver",
    "read_solverstate",
    "read_weight_file",
    "restore_history",
    "write_caffemodel",
    "write_prototxt",
    "write_solverstate",
    "write_weight_file",
]
