"""Write a radiograph as a DICOM file, with a patient's name that must not appear in any output."""

import io

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

PLANTED = "DOE^SECRET"


def dicom(stored, syntax=ExplicitVRLittleEndian, **tags):
    """The bytes of a file of gray levels [H, W]. `tags` overwrite the usual ones; None removes one."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "CR", "MONOCHROME2", 1
    dataset.PatientName, dataset.PatientID = PLANTED, PLANTED
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = dataset.BitsStored = 8 * stored.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
