"""Names, numbers, types and defaults of the Caffe messages in CPM-family files (spec `caffe_fields.json`).

Notation, read by :mod:`cpm_repro.caffe.schema`: a message's name at the margin, then its fields as
``name=number:type``, with ``*`` after the type of a repeated field, ``!`` if it is packed and ``=value`` for
a default. An enum inside a message is named ``Message.Enum``; a field refers to it by ``Enum`` alone.
Parameter messages of layers that no CPM-family net uses are left out on purpose: a file that sets one
is told so.
"""

MESSAGES = """
BlobShape
    dim=1:int64*!
BlobProto
    shape=7:BlobShape data=5:float*! diff=6:float*! double_data=8:double*! double_diff=9:double*!
    num=1:int32=0 channels=2:int32=0 height=3:int32=0 width=4:int32=0
BlobProtoVector
    blobs=1:BlobProto*
Datum
    channels=1:int32 height=2:int32 width=3:int32 data=4:bytes label=5:int32 float_data=6:float*
    encoded=7:bool=false
FillerParameter
    type=1:string=constant value=2:float=0 min=3:float=0 max=4:float=1 mean=5:float=0 std=6:float=1
    sparse=7:int32=-1 variance_norm=8:VarianceNorm=FAN_IN
NetParameter
    name=1:string input=3:string* input_shape=8:BlobShape* input_dim=4:int32* force_backward=5:bool=false
    state=6:NetState debug_info=7:bool=false layer=100:LayerParameter* layers=2:V1LayerParameter*
SolverParameter
    net=24:string net_param=25:NetParameter train_net=1:string test_net=2:string*
    train_net_param=21:NetParameter test_net_param=22:NetParameter* train_state=26:NetState
    test_state=27:NetState* test_iter=3:int32* test_interval=4:int32=0 test_compute_loss=19:bool=false
    test_initialization=32:bool=true base_lr=5:float display=6:int32 average_loss=33:int32=1
    max_iter=7:int32 iter_size=36:int32=1 lr_policy=8:string gamma=9:float power=10:float
    momentum=11:float weight_decay=12:float regularization_type=29:string=L2 stepsize=13:int32
    stepvalue=34:int32* clip_gradients=35:float=-1 snapshot=14:int32=0 snapshot_prefix=15:string
    snapshot_diff=16:bool=false snapshot_format=37:SnapshotFormat=BINARYPROTO
    solver_mode=17:SolverMode=GPU device_id=18:int32=0 random_seed=20:int64=-1 type=40:string=SGD
    delta=31:float=1e-8 momentum2=39:float=0.999 rms_decay=38:float=0.99 debug_info=23:bool=false
    snapshot_after_train=28:bool=true solver_type=30:SolverType=SGD
SolverState
    iter=1:int32 learned_net=2:string history=3:BlobProto* current_step=4:int32=0
NetState
    phase=1:Phase=TEST level=2:int32=0 stage=3:string*
NetStateRule
    phase=1:Phase min_level=2:int32 max_level=3:int32 stage=4:string* not_stage=5:string*
ParamSpec
    name=1:string share_mode=2:DimCheckMode lr_mult=3:float=1.0 decay_mult=4:float=1.0
LayerParameter
    name=1:string type=2:string bottom=3:string* top=4:string* phase=10:Phase loss_weight=5:float*
    param=6:ParamSpec* blobs=7:BlobProto* propagate_down=11:bool* include=8:NetStateRule*
    exclude=9:NetStateRule* transform_param=100:TransformationParameter loss_param=101:LossParameter
    batch_norm_param=139:BatchNormParameter bias_param=141:BiasParameter concat_param=104:ConcatParameter
    convolution_param=106:ConvolutionParameter crop_param=144:CropParameter data_param=107:DataParameter
    dropout_param=108:DropoutParameter dummy_data_param=109:DummyDataParameter
    eltwise_param=110:EltwiseParameter elu_param=140:ELUParameter flatten_param=135:FlattenParameter
    hdf5_data_param=112:HDF5DataParameter inner_product_param=117:InnerProductParameter
    input_param=143:InputParameter lrn_param=118:LRNParameter pooling_param=121:PoolingParameter
    power_param=122:PowerParameter prelu_param=131:PReLUParameter relu_param=123:ReLUParameter
    reshape_param=133:ReshapeParameter scale_param=142:ScaleParameter sigmoid_param=124:SigmoidParameter
    softmax_param=125:SoftmaxParameter slice_param=126:SliceParameter tanh_param=127:TanHParameter
    cpmdata_param=147:CPMDataParameter
TransformationParameter
    scale=1:float=1 mirror=2:bool=false crop_size=3:uint32=0 mean_file=4:string mean_value=5:float*
    stride=6:uint32=4 scale_cvg=7:float=0.5 max_cvg_len=8:uint32=50 min_cvg_len=9:uint32=50
    opaque_coverage=10:bool=true coverage=11:string=gridbox_max flip_prob=12:float=0.5
    max_rotate_degree=13:float=5.0 visualize=14:bool=false crop_size_x=15:uint32=368
    crop_size_y=16:uint32=368 scale_prob=17:float=0.5 scale_min=18:float=0.9 scale_max=19:float=1.1
    bbox_norm_factor=20:float=300 img_header=21:string=. force_color=22:bool=false
    force_gray=23:bool=false target_dist=24:float=1.0 center_perterb_max=25:float=10.0 sigma=26:float=7.0
    sigma_center=27:float=21.0 clahe_tile_size=28:float=8.0 clahe_clip_limit=29:float=4.0
    do_clahe=30:bool=false num_parts=31:uint32=14 num_total_augs=32:uint32=82 aug_way=33:string=rand
    gray=34:uint32=0 np_in_lmdb=35:uint32=16 transform_body_joint=38:bool=true put_gaussian=39:bool=true
    visualize_label=40:bool=false
LossParameter
    ignore_label=1:int32 normalization=3:NormalizationMode=VALID normalize=2:bool
ConcatParameter
    axis=2:int32=1 concat_dim=1:uint32=1
BatchNormParameter
    use_global_stats=1:bool moving_average_fraction=2:float=.999 eps=3:float=1e-5
BiasParameter
    axis=1:int32=1 num_axes=2:int32=1 filler=3:FillerParameter
ConvolutionParameter
    num_output=1:uint32 bias_term=2:bool=true pad=3:uint32* kernel_size=4:uint32* stride=6:uint32*
    dilation=18:uint32* pad_h=9:uint32=0 pad_w=10:uint32=0 kernel_h=11:uint32 kernel_w=12:uint32
    stride_h=13:uint32 stride_w=14:uint32 group=5:uint32=1 weight_filler=7:FillerParameter
    bias_filler=8:FillerParameter engine=15:Engine=DEFAULT axis=16:int32=1 force_nd_im2col=17:bool=false
DropoutParameter
    dropout_ratio=1:float=0.5
EltwiseParameter
    operation=1:EltwiseOp=SUM coeff=2:float* stable_prod_grad=3:bool=true
InnerProductParameter
    num_output=1:uint32 bias_term=2:bool=true weight_filler=3:FillerParameter
    bias_filler=4:FillerParameter axis=5:int32=1 transpose=6:bool=false
InputParameter
    shape=1:BlobShape*
LRNParameter
    local_size=1:uint32=5 alpha=2:float=1. beta=3:float=0.75 norm_region=4:NormRegion=ACROSS_CHANNELS
    k=5:float=1. engine=6:Engine=DEFAULT
PoolingParameter
    pool=1:PoolMethod=MAX pad=4:uint32=0 pad_h=9:uint32=0 pad_w=10:uint32=0 kernel_size=2:uint32
    kernel_h=5:uint32 kernel_w=6:uint32 stride=3:uint32=1 stride_h=7:uint32 stride_w=8:uint32
    engine=11:Engine=DEFAULT global_pooling=12:bool=false
PowerParameter
    power=1:float=1.0 scale=2:float=1.0 shift=3:float=0.0
ReLUParameter
    negative_slope=1:float=0 engine=2:Engine=DEFAULT
PReLUParameter
    filler=1:FillerParameter channel_shared=2:bool=false
ScaleParameter
    axis=1:int32=1 num_axes=2:int32=1 filler=3:FillerParameter bias_term=4:bool=false
    bias_filler=5:FillerParameter
SigmoidParameter
    engine=1:Engine=DEFAULT
SliceParameter
    axis=3:int32=1 slice_point=2:uint32* slice_dim=1:uint32=1
SoftmaxParameter
    engine=1:Engine=DEFAULT axis=2:int32=1
DummyDataParameter
    data_filler=1:FillerParameter* shape=6:BlobShape* num=2:uint32* channels=3:uint32* height=4:uint32*
    width=5:uint32*
HDF5DataParameter
    source=1:string batch_size=2:uint32 shuffle=3:bool=false debug=4:bool=false
DataParameter
    source=1:string batch_size=4:uint32 rand_skip=7:uint32=0 backend=8:DB=LEVELDB scale=2:float=1
    mean_file=3:string crop_size=5:uint32=0 mirror=6:bool=false force_encoded_color=9:bool=false
    prefetch=10:uint32=4
CPMDataParameter
    source=1:string lbl_source=11:string batch_size=4:uint32 rand_skip=7:uint32=0 backend=8:DB=LEVELDB
    scale=2:float=1 mean_file=3:string crop_size=5:uint32=0 mirror=6:bool=false
    force_encoded_color=9:bool=false prefetch=10:uint32=4
TanHParameter
    engine=1:Engine=DEFAULT
ELUParameter
    alpha=1:float=1
ReshapeParameter
    shape=1:BlobShape axis=2:int32=0 num_axes=3:int32=-1
FlattenParameter
    axis=1:int32=1 end_axis=2:int32=-1
CropParameter
    axis=1:int32=2 offset=2:uint32*
V1LayerParameter
    name=4:string bottom=2:string* top=3:string* include=32:NetStateRule* exclude=33:NetStateRule*
    type=5:LayerType blobs=6:BlobProto* param=1001:string* blob_share_mode=1002:DimCheckMode*
    blobs_lr=7:float* weight_decay=8:float* loss_weight=35:float* concat_param=9:ConcatParameter
    convolution_param=10:ConvolutionParameter data_param=11:DataParameter
    dropout_param=12:DropoutParameter dummy_data_param=26:DummyDataParameter
    eltwise_param=24:EltwiseParameter hdf5_data_param=13:HDF5DataParameter
    inner_product_param=17:InnerProductParameter lrn_param=18:LRNParameter
    pooling_param=19:PoolingParameter power_param=21:PowerParameter relu_param=30:ReLUParameter
    sigmoid_param=38:SigmoidParameter softmax_param=39:SoftmaxParameter slice_param=31:SliceParameter
    tanh_param=37:TanHParameter transform_param=36:TransformationParameter loss_param=42:LossParameter
"""

ENUMS = """
FillerParameter.VarianceNorm
    FAN_IN=0 FAN_OUT=1 AVERAGE=2
SolverParameter.SnapshotFormat
    HDF5=0 BINARYPROTO=1
SolverParameter.SolverMode
    CPU=0 GPU=1
SolverParameter.SolverType
    SGD=0 NESTEROV=1 ADAGRAD=2 RMSPROP=3 ADADELTA=4 ADAM=5
Phase
    TRAIN=0 TEST=1
ParamSpec.DimCheckMode
    STRICT=0 PERMISSIVE=1
LossParameter.NormalizationMode
    FULL=0 VALID=1 BATCH_SIZE=2 NONE=3
ConvolutionParameter.Engine
    DEFAULT=0 CAFFE=1 CUDNN=2
DataParameter.DB
    LEVELDB=0 LMDB=1
EltwiseParameter.EltwiseOp
    PROD=0 SUM=1 MAX=2
LRNParameter.NormRegion
    ACROSS_CHANNELS=0 WITHIN_CHANNEL=1
LRNParameter.Engine
    DEFAULT=0 CAFFE=1 CUDNN=2
PoolingParameter.PoolMethod
    MAX=0 AVE=1 STOCHASTIC=2
PoolingParameter.Engine
    DEFAULT=0 CAFFE=1 CUDNN=2
ReLUParameter.Engine
    DEFAULT=0 CAFFE=1 CUDNN=2
SigmoidParameter.Engine
    DEFAULT=0 CAFFE=1 CUDNN=2
SoftmaxParameter.Engine
    DEFAULT=0 CAFFE=1 CUDNN=2
TanHParameter.Engine
    DEFAULT=0 CAFFE=1 CUDNN=2
CPMDataParameter.DB
    LEVELDB=0 LMDB=1
V1LayerParameter.LayerType
    NONE=0 ABSVAL=35 ACCURACY=1 ARGMAX=30 BNLL=2 CONCAT=3 CONTRASTIVE_LOSS=37 CONVOLUTION=4 DATA=5
    DECONVOLUTION=39 DROPOUT=6 DUMMY_DATA=32 EUCLIDEAN_LOSS=7 ELTWISE=25 EXP=38 FLATTEN=8 HDF5_DATA=9
    HDF5_OUTPUT=10 HINGE_LOSS=28 IM2COL=11 IMAGE_DATA=12 INFOGAIN_LOSS=13 INNER_PRODUCT=14 LRN=15
    MEMORY_DATA=29 MULTINOMIAL_LOGISTIC_LOSS=16 MVN=34 POOLING=17 POWER=26 RELU=18 SIGMOID=19
    SIGMOID_CROSS_ENTROPY_LOSS=27 SILENCE=36 SOFTMAX=20 SOFTMAX_LOSS=21 SPLIT=22 SLICE=33 TANH=23
    WINDOW_DATA=24 THRESHOLD=31 ROIPOOLING=40
V1LayerParameter.DimCheckMode
    STRICT=0 PERMISSIVE=1
"""
