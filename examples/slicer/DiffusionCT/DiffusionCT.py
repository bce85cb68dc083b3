"""A module of 3D Slicer: the volume that is shown becomes one with another kernel's texture.

What does not need Slicer is in DiffusionCTLib/command_line.py. See docs/how-to/slicer.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import ctk
import qt
import slicer
from DiffusionCTLib.command_line import CommandLineError, Result, Settings, find_program, standardize
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)

PROGRAM_SETTING = "DiffusionCT/program"
SERIES_UID, SLICE_THICKNESS = "0020,000E", "0018,0050"


class DiffusionCT(ScriptedLoadableModule):
    """What Slicer shows in its list of modules."""

    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = "DiffusionCT"
        self.parent.categories = ["Filtering"]
        self.parent.contributors = ["DiffusionCT"]
        self.parent.helpText = (
            "Gives a CT volume the texture of another reconstruction kernel. Research use only, not for diagnosis: texture "
            "that a soft kernel removed is synthesized, not recovered."
        )
        self.parent.acknowledgementText = "Method: Selim et al., DiffusionCT, arXiv:2301.08815."


class DiffusionCTWidget(ScriptedLoadableModuleWidget):
    """The panel of the module."""

    def setup(self):
        """Build the panel."""
        super().setup()
        self.cancelled = False
        box = ctk.ctkCollapsibleButton()
        box.text = "Standardize"
        self.layout.addWidget(box)
        form = qt.QFormLayout(box)

        self.volume = volume_selector("CT volume in Hounsfield units, axial slices")
        self.reference = volume_selector("Volume whose texture to take; leave the target empty", none=True)
        self.target = qt.QLineEdit()
        self.target.setPlaceholderText("Br40, say; empty: the standard of the checkpoint")
        self.noise = qt.QComboBox()
        self.noise.addItems(["keep", "target", "30"])
        self.noise.setEditable(True)
        self.noise.setToolTip("Keep the dose of the scan, take over that of the target, or noise of soft tissue in HU")
        self.program = ctk.ctkPathLineEdit()
        self.program.filters = ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Dirs
        self.program.setToolTip("The command diffusionct, or the environment that it is in; empty: look for it in PATH")
        self.program.currentPath = slicer.app.settings().value(PROGRAM_SETTING) or ""
        self.status = qt.QLabel()
        self.status.setWordWrap(True)
        self.apply, self.cancel = qt.QPushButton("Standardize"), qt.QPushButton("Cancel")
        self.cancel.enabled = False
        for name, widget in {
            "Volume": self.volume,
            "Target": self.target,
            "Reference": self.reference,
            "Noise": self.noise,
            "Program": self.program,
        }.items():
            form.addRow(name, widget)
        for widget in (self.apply, self.cancel, self.status):
            form.addRow(widget)
        self.layout.addStretch(1)

        self.apply.connect("clicked(bool)", self.on_apply)
        self.cancel.connect("clicked(bool)", self.on_cancel)

    def on_cancel(self, *_):
        """End the run soon."""
        self.cancelled = True

    def on_apply(self, *_):
        """Standardize, and show the result above its source."""
        self.cancelled = False
        self.apply.enabled, self.cancel.enabled = False, True
        try:
            program = find_program(self.program.currentPath)
            slicer.app.settings().setValue(PROGRAM_SETTING, self.program.currentPath)
            result, node = DiffusionCTLogic().run(
                program,
                self.volume.currentNode(),
                self.target.text.strip(),
                self.reference.currentNode(),
                self.noise.currentText,
                self.go_on,
            )
        except CommandLineError as error:
            self.status.setText("")
            slicer.util.errorDisplay(str(error))
            return
        finally:
            self.apply.enabled, self.cancel.enabled = True, False
        slicer.util.setSliceViewerLayers(background=node, foreground=self.volume.currentNode(), foregroundOpacity=0)
        self.status.setText("\n".join([f"Kernel: {result.kernel}", *result.remarks]))

    def go_on(self, line):
        """Show what the run says, and keep Slicer alive meanwhile."""
        self.status.setText(line or "The model is being loaded.")
        slicer.app.processEvents()
        return not self.cancelled


class DiffusionCTLogic(ScriptedLoadableModuleLogic):
    """From node to node, for other modules and scripts too."""

    def run(
        self, program, volume, target="", reference=None, noise="keep", go_on=lambda line: True
    ) -> tuple[Result, object]:
        """Standardize a volume.

        Args:
            program: What `find_program` found.
            volume: vtkMRMLScalarVolumeNode.
            target, noise: As of `Settings`.
            reference: vtkMRMLScalarVolumeNode or None.
            go_on: As of `standardize`.

        Returns:
            What the run wrote, and its node.

        Raises:
            CommandLineError: It failed; no node is made then.
        """
        if volume is None:
            raise CommandLineError("Choose a volume.")
        uid, thickness = dicom_values(volume)
        with tempfile.TemporaryDirectory(dir=slicer.app.temporaryPath) as folder:
            given, texture = Path(folder, "in", "volume.nrrd"), None
            write(volume, given)
            if reference is not None:
                texture = Path(folder, "reference", "volume.nrrd")
                write(reference, texture)
            settings = Settings(target, texture, noise, uid, thickness)
            environment = slicer.util.startupEnvironment()
            result = standardize(program, given, Path(folder, "out"), settings, environment, go_on)
            node = slicer.util.loadVolume(str(result.path), {"name": f"{volume.GetName()} {result.kernel}"})
        slicer.mrmlScene.RemoveNode(node.GetStorageNode())  # its file is gone: Slicer shall offer to save it
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        before, after = volume.GetDisplayNode(), node.GetDisplayNode()
        if before is not None and after is not None:
            after.AutoWindowLevelOff()
            after.SetWindowLevel(before.GetWindow(), before.GetLevel())
        return result, node


def volume_selector(tip, none=False):
    """A list of the volumes of the scene."""
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.addEnabled = selector.removeEnabled = False
    selector.noneEnabled = none
    selector.setMRMLScene(slicer.mrmlScene)
    selector.setToolTip(tip)
    return selector


def write(volume, path):
    """Write the voxels of a node, and leave the node's own file alone."""
    path.parent.mkdir()
    storage = slicer.mrmlScene.CreateNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.UnRegister(None)
    storage.SetFileName(str(path))
    storage.UseCompressionOff()
    if not storage.WriteData(volume):
        raise CommandLineError(f"The volume {volume.GetName()} cannot be written to {path}.")


def dicom_values(volume):
    """SeriesInstanceUID and slice thickness in mm of a volume that was loaded from DICOM; "" and None for others."""
    uids = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    if not uids or slicer.dicomDatabase is None:
        return "", None
    uid, thickness = (slicer.dicomDatabase.instanceValue(uids[0], tag) for tag in (SERIES_UID, SLICE_THICKNESS))
    return uid or "", float(thickness) if thickness else None
